"""Image-text models of others as a `Model`: open_clip by name or folder (BiomedCLIP's
format), and CheXzero.
"""

import json
import tempfile
from collections import defaultdict
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from radwb import data
from radwb.models.adapters import check_name, grid_of, only_own_size
from radwb.models.checks import (
    MAX_SIDE,
    check_config,
    mapping,
    outline,
    part,
    read_json,
    whole,
)
from radwb.models.model import Model
from radwb.models.sources import (
    cached,
    consent,
    fill,
    library_call,
    licence_of,
    megabytes,
    misfits,
    quiet,
    read_weights,
)
from radwb.models.text import Bert, WordPieces

CONFIG = "open_clip_config.json"
FITS = {"shortest": "crop", "longest": "pad", "squash": "squash"}
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
OPENAI_MARKS = (
    "input_resolution",
    "context_length",
    "vocab_size",
)  # numbers among the weights of OpenAI's own files
GREY_255 = (
    101.48761 / 255,
    83.43944 / 255,
)  # CheXzero's zero_shot.py: mean and std of pixels from 0 to 255


def load_open_clip(
    rest: str, name: str, *, download: bool, size: int | None, like: str | None = None
) -> Model:
    """ARCH, ARCH/TAG, ARCH/FILE, local-dir:FOLDER or hf-hub:OWNER/NAME."""
    import open_clip

    only_own_size(size, name)
    if rest.startswith("local-dir:"):
        return load_config_folder(
            rest.removeprefix("local-dir:"), name, download=download
        )
    if rest.startswith("hf-hub:"):
        return load_config_folder(
            _from_hub(rest.removeprefix("hf-hub:"), name, download),
            name,
            download=download,
        )
    arch, _, weights = rest.partition("/")
    check_name(arch, open_clip.list_models(), "open_clip")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if weights and weights not in tags and not Path(weights).is_file():
        some = ", ".join(tags[:6]) or "it has none"
        raise ValueError(
            f"expected a file or a tag of {arch} ({some} ...), got {weights!r}"
        )
    if weights and weights not in tags:
        return _open_clip_file(arch, weights, name, like, download)
    tag = weights or None
    online = download or bool(tag and _allow_tag(open_clip, arch, tag, name))
    quick = bool(tag) and _way(arch, tag)["quick_gelu"]
    net = _build(arch, name, tag, quick, online)
    cfg = _preprocessing(net)
    licence = "MIT (OpenAI)" if tag == "openai" else licence_of(weights)
    return _named_model(net, arch, name, quick, cfg, licence, online)


def _build(arch, name, tag, quick, download):
    """open_clip's network; what it says of random weights is not said where a file's
    are filled in next.
    """
    import open_clip

    make = partial(
        library_call,
        name,
        open_clip.create_model,
        arch,
        pretrained=tag,
        pretrained_text=False,
    )
    return make(force_quick_gelu=quick, download=download)


def _named_model(net, arch, name, quick, cfg, licence, download):
    import open_clip

    tokenizer = library_call(name, open_clip.get_tokenizer, arch, download=download)
    spec = {"builder": "open_clip", "arch": arch} | (
        {"quick_gelu": True} if quick else {}
    )
    return _open_clip_model(net, name, tokenizer, spec, licence, cfg)


def _preprocessing(net):
    from open_clip import get_model_preprocess_cfg

    return get_model_preprocess_cfg(net)


def open_clip_model(
    arch: str, name: str, quick_gelu: bool, *, download: bool = False
) -> Model:
    """The unfilled network of one of open_clip's names, for a folder that `save` wrote."""
    import open_clip

    check_name(arch, open_clip.list_models(), "open_clip")
    with quiet():
        net = _build(arch, name, None, quick_gelu, download)
    return _named_model(net, arch, name, quick_gelu, _preprocessing(net), "", download)


def _open_clip_file(arch, file, name, like, download):
    """Weights from a file, fed as published weights of that architecture are."""
    state = read_weights(file)
    way, notes = _way_of(arch, file, state, like)
    for key in OPENAI_MARKS:
        state.pop(key, None)
    with quiet():
        net = _build(arch, name, None, way["quick_gelu"], download)
    cfg = _preprocessing(net) | {k: way[k] for k in PREPROCESSING}
    model = _named_model(
        net, arch, name, way["quick_gelu"], cfg, licence_of(file), download
    )
    fill(net, state, file)
    model.notes += (*state.notes, *notes)
    return model


def _way(arch, tag):
    """How published weights are fed, and their activation, as open_clip lists them."""
    import open_clip

    cfg = open_clip.get_pretrained_cfg(arch, tag)
    quick = bool(
        cfg.get("quick_gelu") or open_clip.get_model_config(arch).get("quick_gelu")
    )
    usual = asdict(open_clip.transform.PreprocessCfg())
    return {k: cfg.get(k) or usual[k] for k in PREPROCESSING} | {"quick_gelu": quick}


def _way_of(arch, file, state, like):
    """The way for a file, and what was taken for granted; ValueError where it has to be
    told.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(arch)
    if like is None and "openai" in tags and any(key in state for key in OPENAI_MARKS):
        return _way(arch, "openai"), [
            "known as OpenAI's by its names: QuickGELU and its preprocessing"
        ]
    if like is not None and like not in tags:
        raise ValueError(
            f"expected like= to be a tag of {arch}, got {like!r}. Try {', '.join(tags[:8]) or 'none'}"
        )
    if like is not None:
        return _way(arch, like), [f"fed as {arch}/{like}, as asked"]
    usual = asdict(open_clip.transform.PreprocessCfg())
    quick = bool(open_clip.get_model_config(arch).get("quick_gelu"))
    if not tags:
        note = f"open_clip publishes no weights of {arch}: its usual preprocessing is taken for granted"
        return {k: usual[k] for k in PREPROCESSING} | {"quick_gelu": quick}, [note]
    ways = defaultdict(list)
    for tag in tags:
        ways[json.dumps(_way(arch, tag), sort_keys=True)].append(tag)
    if len(ways) > 1 or json.loads(next(iter(ways)))["quick_gelu"] != quick:
        raise ValueError(_ask(arch, file, ways))
    return _way(arch, tags[0]), [f"fed as all published weights of {arch} are"]


def _ask(arch, file, ways):
    """What a file doesn't say: each way that published weights are fed, with some tags
    for it.
    """
    ways_in_words = []
    for way, tags in ways.items():
        way = json.loads(way)
        activation = "QuickGELU" if way["quick_gelu"] else "GELU"
        mean = f"{way['mean'][0]:.3g}"
        ways_in_words.append(
            f"like={tags[0]!r} for {activation} and mean {mean} (as {', '.join(tags[:4])})"
        )
    if len(ways) == 1:
        own = f"open_clip's own configuration of {arch} has GELU: for weights trained with it"
        ways_in_words.append(f"{own} name a folder with open_clip_config.json")
    return (
        f"expected to be told how {Path(file).name} was trained, since a file doesn't say and published weights of "
        f"{arch} differ, got nothing. Try {'; '.join(ways_in_words)}"
    )


def _allow_tag(open_clip, arch, tag, name):
    """Whether somebody allows the network for a tag; nobody is asked where the file is
    in a cache.
    """
    cfg = open_clip.get_pretrained_cfg(arch, tag)
    repo, _, file = cfg.get("hf_hub", "").rpartition("/")
    stem = (file or "open_clip_pytorch_model.bin").rpartition(".")[0]
    by_url = (
        cfg.get("url")
        and (Path("~/.cache/clip").expanduser() / Path(cfg["url"]).name).is_file()
    )
    here = (
        cached(
            repo,
            file,
            f"{stem}.safetensors",
            "open_clip_model.safetensors",
            f"{stem}.bin",
        )
        if repo
        else by_url
    )
    source = f"huggingface.co/{repo}" if repo else cfg.get("url")
    licence = "MIT" if tag == "openai" else f"see {source}"
    with quiet():
        mb = None if here else megabytes(open_clip.create_model, arch, device="meta")
    return not here and consent(name, source=source, licence=licence, mb=mb)


def _from_hub(repo, name, download):
    from huggingface_hub import snapshot_download

    files = [CONFIG, "open_clip_*model.*", "tokenizer*.json", "vocab.txt", "merges.txt"]
    source = f"huggingface.co/{repo}"
    online = download or (
        not cached(repo, CONFIG)
        and consent(name, source=source, licence=f"see {source}")
    )
    return library_call(
        name, snapshot_download, repo, allow_patterns=files, download=online
    )


def load_config_folder(
    folder: str | Path, name: str, *, download: bool = False
) -> Model:
    """A folder in open_clip's format, as BiomedCLIP's: open_clip_config.json, weights,
    perhaps tokenizer.json.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"expected {CONFIG} in {folder}, which is not there")
    config = read_json(folder / CONFIG)
    known = [
        f"{stem}.{end}"
        for end in ("safetensors", "bin", "pth", "pt")
        for stem in (
            "open_clip_model",
            "open_clip_pytorch_model",
            "model",
            "pytorch_model",
        )
    ]
    file = next((folder / n for n in known if (folder / n).is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"expected weights in {folder}, such as {known[1]}; there are none"
        )
    state = read_weights(file)
    model = open_clip_from_config(
        config, state, name, folder / "tokenizer.json", download=download
    )
    model.licence = licence_of(folder.resolve())
    model.notes += state.notes
    fill(model.net, _as_net(state, model.net), file)
    return model


def open_clip_from_config(
    config: dict, state: dict, name: str, tokenizer: Path, *, download: bool = False
) -> Model:
    """The unfilled network of a configuration. A BERT for its text is radwb's own,
    which needs no transformers.
    """
    import open_clip

    check_config(config, CONFIG)
    config = json.loads(json.dumps(config))  # open_clip changes it
    towers = mapping(part(config, "model_cfg", CONFIG), CONFIG)
    text = mapping(part(towers, "text_cfg", CONFIG), CONFIG)
    mapping(part(towers, "vision_cfg", CONFIG), CONFIG)
    whole(part(towers, "embed_dim", CONFIG), "embed_dim")
    bert = _bert_of(text, state, tokenizer.parent)
    if bert is not None:
        text["heads"] = bert.layers[
            0
        ].self_attn.num_heads  # a saved folder has no config.json beside it
    spec = {"builder": "open_clip-config", "config": json.loads(json.dumps(config))}
    if bert is not None:
        config["model_cfg"] |= {
            "custom_text": True,
            "text_cfg": {"vocab_size": 2, "width": 8, "heads": 1, "layers": 1},
        }
    elif "hf_model_name" in text and not find_spec("transformers"):
        raise ValueError(
            f"expected the package transformers for the text tower {text['hf_model_name']} of {name}, "
            "got none. Try: pip install transformers (BERT towers need none)"
        )
    with tempfile.TemporaryDirectory() as place, quiet():
        (Path(place) / CONFIG).write_text(json.dumps(config))
        make = partial(library_call, name, download=download)
        build = partial(
            open_clip.create_model,
            f"local-dir:{place}",
            load_weights=False,
            pretrained_text=False,
        )
        net = make(outline, partial(build, device="meta"), CONFIG)
        _check_towers(net, state, bert, folder=tokenizer.parent)
        net = make(build)
        words = (
            None
            if bert is not None
            else make(open_clip.get_tokenizer, f"local-dir:{place}")
        )
    if bert is not None:
        head = _projection(
            text.get("hf_proj_type"),
            bert.norm.weight.numel(),
            config["model_cfg"]["embed_dim"],
        )
        net.text = BertText(bert, head, text["hf_pooler_type"])
        words = _words(tokenizer, text.get("context_length", 77), name)
    return _open_clip_model(net, name, words, spec, "", _preprocessing(net))


def _check_towers(net, state, bert, folder):
    """ValueError where the file isn't what its configuration describes, before that is
    built.
    """
    from open_clip.convert import convert_state_dict

    wrong = misfits(net, convert_state_dict(net, _as_net(state, net)))
    # radwb's own text tower comes later
    wrong = {
        k: v for k, v in wrong.items() if bert is None or not k.startswith("text.")
    }
    if wrong:
        some = ", ".join(f"{key} ({why})" for key, why in list(wrong.items())[:4])
        raise ValueError(
            f"expected the weights that {CONFIG} describes in {folder.name}, got others: {some}"
        )


class BertText(nn.Module):
    """open_clip's HFTextEncoder for a BERT, without transformers: pooled last hidden
    state, projected.
    """

    def __init__(self, transformer: Bert, proj: nn.Module, pooler: str):
        super().__init__()
        self.transformer, self.proj, self.pooler = transformer, proj, pooler

    def forward(self, ids):
        x = (
            self.transformer.mean(ids)
            if self.pooler == "mean_pooler"
            else self.transformer(ids)[0][:, 0]
        )  # (K, W)
        return self.proj(x)


def _bert_of(text, state, folder):
    own = {
        k.removeprefix("text.transformer."): v
        for k, v in state.items()
        if k.startswith("text.transformer.")
    }
    kinds = own.get("embeddings.token_type_embeddings.weight", own.get("kinds.weight"))
    ours = text.get("hf_pooler_type") in ("mean_pooler", "cls_last_hidden_state_pooler")
    # RoBERTa has the same keys, one kind of token, and places that start elsewhere
    if not ours or kinds is None or len(kinds) != 2:
        return None
    words = own.get("embeddings.word_embeddings.weight", own.get("words.weight"))
    return Bert.of(
        own,
        folder.name,
        _heads(text, int(words.shape[1]) if words is not None else 0, folder),
    )


def _heads(text, width, folder):
    """Of a BERT: from the configuration or the config.json beside it; all published
    ones of width 768 have 12.
    """
    beside = (
        read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    )
    heads = text.get(
        "heads", beside.get("num_attention_heads", 12 if width in (0, 768) else None)
    )
    if heads is None:
        raise ValueError(
            f"expected the number of heads of a BERT of width {width}, which its shapes don't tell, got "
            f'none in {folder.name}. Try "heads": 12 in the text_cfg of {CONFIG}'
        )
    return whole(heads, "heads", high=1024)


def _projection(kind, width, outputs):
    if kind is None and width == outputs:
        return nn.Identity()
    if kind == "mlp":
        middle = (width + outputs) // 2
        return nn.Sequential(
            nn.Linear(width, middle, bias=False),
            nn.GELU(),
            nn.Linear(middle, outputs, bias=False),
        )
    return nn.Linear(width, outputs, bias=False)


def _words(path, context, name):
    if not path.is_file():
        raise FileNotFoundError(
            f"expected tokenizer.json beside the weights of {name}, got none in {path.parent}. "
            "Copy it from where the weights are from."
        )
    return WordPieces(path, context=context)


def _as_net(state, net):
    """A state dict of open_clip's in the names of a net that `open_clip_from_config`
    built.
    """
    from open_clip.model import convert_to_custom_text_state_dict

    if "positional_embedding" in state and not hasattr(net, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if isinstance(getattr(net, "text", None), BertText):
        inside = {
            k: v for k, v in state.items() if not k.startswith("text.transformer.")
        }
        return inside | {
            f"text.transformer.{k}": v
            for k, v in net.text.transformer.state_dict().items()
        }
    return {k: v for k, v in state.items() if not k.endswith("embeddings.position_ids")}


def _open_clip_model(net, name, tokenizer, spec, licence, cfg):
    size = cfg["size"] if isinstance(cfg["size"], int | list | tuple) else (0, 0)
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ValueError(f"expected a square input, got {size} px for {name}")
    if cfg.get("fill_color"):
        raise ValueError(
            f"expected a letterbox in black (fill_color 0), got {cfg['fill_color']} for {name}"
        )
    resize = cfg.get("resize_mode") or "shortest"
    filter = cfg.get("interpolation") or "bicubic"
    if resize not in FITS:
        raise ValueError(
            f"expected resize_mode in {', '.join(FITS)}, got {resize!r} for {name}"
        )
    side = whole(sides.pop(), "size", high=MAX_SIDE)
    fit = data.fit.Fit(FITS[resize], filter="bicubic" if filter == "random" else filter)
    mean, std = (_three(cfg[key]) for key in ("mean", "std"))
    grid = grid_of(net.visual, side)
    about = {"grid": grid, "spec": spec, "tokenizer": tokenizer, "licence": licence}
    return Model(net, name, "image-text", side, 3, mean, std, fit, **about)


def _three(values):
    """A mean or std as open_clip takes it: one number stands for three channels."""
    return tuple(values) if isinstance(values, list | tuple) else (values,) * 3


def load_chexzero(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """FILE.pt of CheXzero (Tiu et al. 2022): OpenAI's CLIP, saved as a state dict."""
    only_own_size(size, name)
    state = read_weights(rest)
    model = chexzero_model(state, name, rest)
    model.licence = licence_of(rest)
    model.notes += state.notes
    fill(model.net, state, rest)
    return model


def chexzero_model(state: dict, name: str, source: object) -> Model:
    """The unfilled network of a state dict in OpenAI's names, its architecture read
    from the shapes.
    """
    from open_clip import get_tokenizer
    from open_clip.model import build_model_from_openai_state_dict

    lacks = {
        "visual.conv1.weight",
        "visual.proj",
        "text_projection",
        "positional_embedding",
    } - set(state)
    if lacks:
        raise ValueError(
            f"expected CheXzero's checkpoint (OpenAI CLIP's names) in {source}, got one without "
            f"{', '.join(sorted(lacks))}"
        )
    for key in OPENAI_MARKS:
        state.pop(key, None)
    net = build_model_from_openai_state_dict(
        dict(state), cast_dtype=torch.float32
    ).float()  # in between it was float16
    side = net.visual.conv1.kernel_size[0] * net.visual.grid_size[0]
    tokenizer = get_tokenizer("ViT-B-32", context_length=net.context_length)
    mean, std = ((v,) * 3 for v in GREY_255)
    # its data_process.py pads to 320 px with black, its zero_shot.py resizes that to
    # the tower's side
    fit = data.fit.Fit("pad", filter="bicubic")
    notes = (
        "CheXzero's films went through 320 px on their way (Lanczos, then bicubic); here they are resized once",
    )
    return Model(
        net,
        name,
        "image-text",
        side,
        3,
        mean,
        std,
        fit,
        net.visual.grid_size,
        spec={"builder": "chexzero"},
        tokenizer=tokenizer,
        notes=notes,
    )
