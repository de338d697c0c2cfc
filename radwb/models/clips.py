"""Image-text models of others as a `Model`: open_clip by name or folder (BiomedCLIP's format), and CheXzero."""

import json
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from radwb.models.adapters import check_name, grid_of, only_own_size
from radwb.models.model import Model
from radwb.models.sources import cached, consent, fill, library_call, licence_of, megabytes, quiet, read_weights
from radwb.models.text import Bert, WordPieces

CONFIG = "open_clip_config.json"
FITS = {"shortest": "crop", "longest": "pad", "squash": "squash"}
GREY_255 = (101.48761 / 255, 83.43944 / 255)  # CheXzero's zero_shot.py: mean and std of pixels from 0 to 255


def load_open_clip(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """ARCH, ARCH/TAG, ARCH/FILE, local-dir:FOLDER or hf-hub:OWNER/NAME."""
    import open_clip

    only_own_size(size, name)
    if rest.startswith("local-dir:"):
        return load_config_folder(rest.removeprefix("local-dir:"), name, download=download)
    if rest.startswith("hf-hub:"):
        return load_config_folder(_from_hub(rest.removeprefix("hf-hub:"), name, download), name, download=download)
    arch, _, weights = rest.partition("/")
    check_name(arch, open_clip.list_models(), "open_clip")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if weights and weights not in tags and not Path(weights).is_file():
        few = ", ".join(tags[:6]) or "it has none"
        raise ValueError(f"expected a file or a tag of {arch} ({few} ...), got {weights!r}")
    tag = weights if weights in tags else None
    online = download or bool(tag and _allow_tag(open_clip, arch, tag, name))
    state = read_weights(weights) if weights and not tag else None
    net = library_call(name, open_clip.create_model, arch, pretrained=tag, pretrained_text=False, download=online)
    if state:
        fill(net, state, weights)
    tokenizer = library_call(name, open_clip.get_tokenizer, arch, download=online)
    licence = "MIT (OpenAI)" if tag == "openai" else licence_of(weights)
    return _open_clip_model(net, name, tokenizer, {"builder": "open_clip", "arch": arch}, licence)


def _allow_tag(open_clip, arch, tag, name):
    """Whether somebody allows the network for a tag; nobody is asked where the file is in a cache."""
    cfg = open_clip.get_pretrained_cfg(arch, tag)
    repo, _, file = cfg.get("hf_hub", "").rpartition("/")
    stem = (file or "open_clip_pytorch_model.bin").rpartition(".")[0]
    by_url = cfg.get("url") and (Path("~/.cache/clip").expanduser() / Path(cfg["url"]).name).is_file()
    here = cached(repo, file, f"{stem}.safetensors", "open_clip_model.safetensors", f"{stem}.bin") if repo else by_url
    source = f"huggingface.co/{repo}" if repo else cfg.get("url")
    licence = "MIT" if tag == "openai" else f"see {source}"
    with quiet():
        mb = None if here else megabytes(open_clip.create_model, arch, device="meta")
    return not here and consent(name, source=source, licence=licence, mb=mb)


def _from_hub(repo, name, download):
    from huggingface_hub import snapshot_download

    files = [CONFIG, "open_clip_*model.*", "tokenizer*.json", "vocab.txt", "merges.txt"]
    source = f"huggingface.co/{repo}"
    online = download or (not cached(repo, CONFIG) and consent(name, source=source, licence=f"see {source}"))
    return library_call(name, snapshot_download, repo, allow_patterns=files, download=online)


def load_config_folder(folder: str | Path, name: str, *, download: bool = False) -> Model:
    """A folder in open_clip's format, as BiomedCLIP's: open_clip_config.json, weights, perhaps tokenizer.json."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"expected {CONFIG} in {folder}, which is not there")
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    known = [f"{stem}.{end}" for end in ("safetensors", "bin", "pth", "pt") for stem in
             ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")]  # fmt: skip
    file = next((folder / n for n in known if (folder / n).is_file()), None)
    if file is None:
        raise FileNotFoundError(f"expected weights in {folder}, such as {known[1]}; there are none")
    state = read_weights(file)
    model = open_clip_from_config(config, state, name, folder / "tokenizer.json", download=download)
    model.licence = licence_of(folder.resolve())
    fill(model.net, _as_net(state, model.net), file)
    return model


def open_clip_from_config(config: dict, state: dict, name: str, tokenizer: Path, *, download: bool = False) -> Model:
    """The unfilled network of a configuration. A BERT for its text is radwb's own, which needs no transformers."""
    import open_clip

    config = json.loads(json.dumps(config))  # open_clip changes it
    text = config["model_cfg"]["text_cfg"]
    bert = _bert_of(text, state)
    spec = {"builder": "open_clip-config", "config": json.loads(json.dumps(config))}
    if bert is not None:
        config["model_cfg"] |= {"custom_text": True, "text_cfg": {"vocab_size": 2, "width": 8, "heads": 1, "layers": 1}}
    elif "hf_model_name" in text and not find_spec("transformers"):
        raise ValueError(f"expected the package transformers for the text tower {text['hf_model_name']} of {name}, "
                         "got none. Try: pip install transformers (BERT towers need none)")  # fmt: skip
    with tempfile.TemporaryDirectory() as place, quiet():
        (Path(place) / CONFIG).write_text(json.dumps(config))
        make = partial(library_call, name, download=download)
        net = make(open_clip.create_model, f"local-dir:{place}", load_weights=False, pretrained_text=False)
        words = None if bert is not None else make(open_clip.get_tokenizer, f"local-dir:{place}")
    if bert is not None:
        head = _projection(text.get("hf_proj_type"), bert.norm.weight.numel(), config["model_cfg"]["embed_dim"])
        net.text = BertText(bert, head, text["hf_pooler_type"])
        words = _words(tokenizer, text.get("context_length", 77), name)
    return _open_clip_model(net, name, words, spec, "")


class BertText(nn.Module):
    """open_clip's HFTextEncoder for a BERT, without transformers: pooled last hidden state, projected."""

    def __init__(self, transformer: Bert, proj: nn.Module, pooler: str):
        super().__init__()
        self.transformer, self.proj, self.pooler = transformer, proj, pooler

    def forward(self, ids):
        x = self.transformer.mean(ids) if self.pooler == "mean_pooler" else self.transformer(ids)[0][:, 0]  # (K, W)
        return self.proj(x)


def _bert_of(text, state):
    own = {k.removeprefix("text.transformer."): v for k, v in state.items() if k.startswith("text.transformer.")}
    kinds = own.get("embeddings.token_type_embeddings.weight", own.get("kinds.weight"))
    ours = text.get("hf_pooler_type") in ("mean_pooler", "cls_last_hidden_state_pooler")
    # RoBERTa has the same keys, one kind of token, and places that start elsewhere
    return Bert.of(own) if ours and kinds is not None and len(kinds) == 2 else None


def _projection(kind, width, outputs):
    if kind is None and width == outputs:
        return nn.Identity()
    if kind == "mlp":
        middle = (width + outputs) // 2
        return nn.Sequential(nn.Linear(width, middle, bias=False), nn.GELU(), nn.Linear(middle, outputs, bias=False))
    return nn.Linear(width, outputs, bias=False)


def _words(path, context, name):
    if not path.is_file():
        raise FileNotFoundError(f"expected tokenizer.json beside the weights of {name}, got none in {path.parent}. "
                                "Copy it from where the weights are from.")  # fmt: skip
    return WordPieces(path, context=context)


def _as_net(state, net):
    """A state dict of open_clip's in the names of a net that `open_clip_from_config` built."""
    from open_clip.model import convert_to_custom_text_state_dict

    if "positional_embedding" in state and not hasattr(net, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if isinstance(getattr(net, "text", None), BertText):
        inside = {k: v for k, v in state.items() if not k.startswith("text.transformer.")}
        return inside | {f"text.transformer.{k}": v for k, v in net.text.transformer.state_dict().items()}
    return {k: v for k, v in state.items() if not k.endswith("embeddings.position_ids")}


def _open_clip_model(net, name, tokenizer, spec, licence):
    from open_clip import get_model_preprocess_cfg

    cfg = get_model_preprocess_cfg(net)
    size = cfg["size"] if isinstance(cfg["size"], int) else cfg["size"][0]
    return Model(net, name, "image-text", size, 3, tuple(cfg["mean"]), tuple(cfg["std"]),
                 FITS[cfg.get("resize_mode", "shortest")], grid_of(net.visual, size), spec=spec, tokenizer=tokenizer,
                 licence=licence)  # fmt: skip


def load_chexzero(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """FILE.pt of CheXzero (Tiu et al. 2022): OpenAI's CLIP, saved as a state dict."""
    only_own_size(size, name)
    state = read_weights(rest)
    model = chexzero_model(state, name, rest)
    model.licence = licence_of(rest)
    fill(model.net, state, rest)
    return model


def chexzero_model(state: dict, name: str, source: object) -> Model:
    """The unfilled network of a state dict in OpenAI's names, its architecture read from the shapes."""
    from open_clip import get_tokenizer
    from open_clip.model import build_model_from_openai_state_dict

    lacks = {"visual.conv1.weight", "visual.proj", "text_projection", "positional_embedding"} - set(state)
    if lacks:
        raise ValueError(f"expected CheXzero's checkpoint (OpenAI CLIP's names) in {source}, got one without "
                         f"{', '.join(sorted(lacks))}")  # fmt: skip
    for key in ("input_resolution", "context_length", "vocab_size"):
        state.pop(key, None)
    net = build_model_from_openai_state_dict(dict(state), cast_dtype=torch.float32).float()  # in between it was float16
    side = net.visual.conv1.kernel_size[0] * net.visual.grid_size[0]
    tokenizer = get_tokenizer("ViT-B-32", context_length=net.context_length)
    mean, std = ((v,) * 3 for v in GREY_255)
    # its data_process.py pads to 320 px with black, its zero_shot.py resizes that to the tower's side
    return Model(net, name, "image-text", side, 3, mean, std, "pad", net.visual.grid_size,
                 spec={"builder": "chexzero"}, tokenizer=tokenizer)  # fmt: skip
