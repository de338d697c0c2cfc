"""Image-text models of others from a folder or checkpoint that tells its architecture.

open_clip's folders, as BiomedCLIP's: open_clip_config.json, weights, tokenizer.json;
and CheXzero's checkpoint, whose shapes tell it.
"""

import copy
import json
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from radwb import data
from radwb.models.checks import (
    MAX_SIDE,
    check_config,
    mapping,
    outline,
    part,
    read_json,
    whole,
)
from radwb.models.hub import library_call, licence_of, only_own_size, quiet
from radwb.models.model import Model
from radwb.models.sources import fill_model, read_weights, require_fit
from radwb.models.text import Bert, WordPieces
from radwb.models.timm_towers import grid_of
from radwb.models.tiny import NO_TEXT

CONFIG = "open_clip_config.json"
STEMS = ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")
FITS = {"shortest": "crop", "longest": "pad", "squash": "squash"}
POOLERS = ("mean_pooler", "cls_last_hidden_state_pooler")
# numbers among the weights of OpenAI's own files
OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
OPENAI_NAMES = (
    "visual.conv1.weight",
    "visual.proj",
    "text_projection",
    "positional_embedding",
)
# CheXzero's zero_shot.py: mean and std of pixels from 0 to 255
CHEXZERO_MEAN = 101.48761 / 255
CHEXZERO_STD = 83.43944 / 255


def clip_model(
    net: nn.Module,
    name: str,
    tokenizer: object,
    spec: dict,
    feeding: dict | None = None,
) -> Model:
    """A network of open_clip's, fed as open_clip feeds it.

    Args:
        feeding: what differs from the preprocessing that open_clip notes on `net`.
    """
    from open_clip import get_model_preprocess_cfg

    cfg = get_model_preprocess_cfg(net) | (feeding or {})
    resize = cfg.get("resize_mode") or "shortest"
    if resize not in FITS:
        raise ValueError(
            f"expected resize_mode in {', '.join(FITS)}, got {resize!r} for {name}"
        )
    if cfg.get("fill_color"):
        raise ValueError(
            f"expected a letterbox in black (fill_color 0), got {cfg['fill_color']} "
            f"for {name}"
        )
    resample = cfg.get("interpolation") or "bicubic"
    if resample == "random":
        resample = "bicubic"
    side = _side(cfg["size"], name)
    return Model(
        net,
        name,
        "image-text",
        side,
        channels=3,
        mean=_three(cfg["mean"]),
        std=_three(cfg["std"]),
        fit=data.fit.Fit(FITS[resize], filter=resample),
        grid=grid_of(net.visual, side),
        spec=spec,
        tokenizer=tokenizer,
    )


def _side(size, name):
    """Px of a square input, from one number or two that are equal."""
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1:
        raise ValueError(f"expected a square input, got {size} px for {name}")
    return whole(sides.pop(), "size", high=MAX_SIDE)


def _three(values):
    """A mean or std as open_clip takes it: one number stands for three channels."""
    return tuple(values) if isinstance(values, list | tuple) else (values,) * 3


def load_config_folder(
    folder: str | Path, name: str, *, download: bool = False
) -> Model:
    """A folder in open_clip's format: its config, weights, perhaps tokenizer.json."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"expected {CONFIG} in {folder}, which is not there")
    config = read_json(folder / CONFIG)
    ends = ("safetensors", "bin", "pth", "pt")
    files = [folder / f"{stem}.{end}" for end in ends for stem in STEMS]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"expected weights in {folder}, such as {files[1].name}; there are none"
        )
    state = read_weights(file)
    tokenizer = folder / "tokenizer.json"
    model = open_clip_from_config(config, state, name, tokenizer, download=download)
    model.licence = licence_of(folder.resolve())
    fill_model(model, state, file, tensors=_named_as(model.net, state))
    return model


def open_clip_from_config(
    config: dict, state: dict, name: str, tokenizer: Path, *, download: bool = False
) -> Model:
    """The unfilled network of a configuration, which its weights have to fit.

    A BERT for its text is radwb's own, which needs no transformers.
    """
    check_config(config, CONFIG)
    config = copy.deepcopy(config)  # open_clip changes it
    towers = mapping(part(config, "model_cfg", CONFIG), CONFIG)
    text = mapping(part(towers, "text_cfg", CONFIG), CONFIG)
    mapping(part(towers, "vision_cfg", CONFIG), CONFIG)
    width = whole(part(towers, "embed_dim", CONFIG), "embed_dim")
    folder = tokenizer.parent
    bert = _bert_of(text, state, folder)
    if bert is None and "hf_model_name" in text and not find_spec("transformers"):
        raise ValueError(
            "expected the package transformers for the text tower "
            f"{text['hf_model_name']} of {name}, got none. "
            "Try: pip install transformers (BERT towers need none)"
        )
    if bert is not None:
        # a saved folder has no config.json beside it
        text["heads"] = bert.layers[0].self_attn.num_heads
    spec = {"builder": "open_clip-config", "config": copy.deepcopy(config)}
    if bert is not None:
        towers |= {"custom_text": True, "text_cfg": dict(NO_TEXT)}
    own_text = bert is not None
    net, words = _build(config, state, name, folder, download, own_text=own_text)
    if bert is not None:
        projection = _projection(text.get("hf_proj_type"), _width(bert), width)
        net.text = BertText(bert, projection, text["hf_pooler_type"])
        words = _words(tokenizer, text.get("context_length", 77), name)
    return clip_model(net, name, words, spec)


def _build(config, state, name, folder, download, *, own_text):
    """open_clip's network of a configuration, and its tokenizer (None: `own_text`)."""
    import open_clip

    words = None
    options = {"load_weights": False, "pretrained_text": False}
    with tempfile.TemporaryDirectory() as place, quiet():
        (Path(place) / CONFIG).write_text(json.dumps(config))
        source = f"local-dir:{place}"
        call = partial(library_call, name, download=download)
        make = partial(open_clip.create_model, source, **options)
        planned = call(outline, partial(make, device="meta"), CONFIG)
        tensors = _named_as(planned, state)
        if own_text:
            # radwb's own text tower comes later
            tensors = {k: t for k, t in tensors.items() if not k.startswith("text.")}
            del planned.text
        _require_towers(planned, tensors, folder)
        net = call(make)
        if not own_text:
            words = call(open_clip.get_tokenizer, source)
    return net, words


def _require_towers(net, tensors, folder):
    """ValueError where the file isn't what its configuration describes."""
    from open_clip.convert import convert_state_dict

    tensors = convert_state_dict(net, tensors)
    require_fit(net, tensors, f"that {CONFIG} describes", folder.name)


class BertText(nn.Module):
    """open_clip's HFTextEncoder for a BERT: pooled last hidden state, projected."""

    def __init__(self, transformer: Bert, proj: nn.Module, pooler: str):
        super().__init__()
        self.transformer = transformer
        self.proj = proj
        self.pooler = pooler

    def forward(self, ids):
        if self.pooler == "mean_pooler":
            return self.proj(self.transformer.mean(ids))
        hidden, _ = self.transformer(ids)
        return self.proj(hidden[:, 0])  # (K, W) -> (K, E)


def _bert_of(text, state, folder):
    """The text tower, filled, if it's a BERT that is pooled in a way known here."""
    prefix = "text.transformer."
    tensors = {
        k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)
    }
    kinds = tensors.get("embeddings.token_type_embeddings.weight")
    kinds = tensors.get("kinds.weight") if kinds is None else kinds
    # RoBERTa has the same keys, one kind of token, and places that start elsewhere
    if text.get("hf_pooler_type") not in POOLERS or kinds is None or len(kinds) != 2:
        return None
    return Bert.of(tensors, folder.name, _heads(text, kinds.shape[1], folder))


def _width(bert):
    return bert.norm.weight.numel()


def _heads(text, width, folder):
    """Of a BERT: from the configuration, or from the config.json beside it.

    All published ones of width 768 have 12.
    """
    path = folder / "config.json"
    beside = read_json(path) if path.is_file() else {}
    usual = 12 if width == 768 else None
    heads = text.get("heads", beside.get("num_attention_heads", usual))
    if heads is None:
        raise ValueError(
            f"expected the number of heads of a BERT of width {width}, which its "
            f'shapes don\'t tell, got none in {folder.name}. Try "heads": 12 in the '
            f"text_cfg of {CONFIG}"
        )
    return whole(heads, "heads", high=1024)


def _projection(kind, width, outputs):
    """open_clip's HFTextEncoder's: none, one layer, or two ("mlp")."""
    if kind is None and width == outputs:
        return nn.Identity()
    if kind != "mlp":
        return nn.Linear(width, outputs, bias=False)
    middle = (width + outputs) // 2
    first = nn.Linear(width, middle, bias=False)
    return nn.Sequential(first, nn.GELU(), nn.Linear(middle, outputs, bias=False))


def _words(path, context, name):
    if not path.is_file():
        raise FileNotFoundError(
            f"expected tokenizer.json beside the weights of {name}, got none in "
            f"{path.parent}. Copy it from where the weights are from."
        )
    return WordPieces(path, context=context)


def _named_as(net, state):
    """A state dict of open_clip's in the names of a net that radwb built."""
    from open_clip.model import convert_to_custom_text_state_dict

    if "positional_embedding" in state and not hasattr(net, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if not isinstance(getattr(net, "text", None), BertText):
        stale = "embeddings.position_ids"  # a buffer that older transformers saved
        return {k: t for k, t in state.items() if not k.endswith(stale)}
    prefix = "text.transformer."
    tensors = {k: t for k, t in state.items() if not k.startswith(prefix)}
    for key, tensor in net.text.transformer.state_dict().items():
        tensors[prefix + key] = tensor
    return tensors


def load_chexzero(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """FILE.pt of CheXzero (Tiu et al. 2022): OpenAI's CLIP, saved as a state dict."""
    only_own_size(size, name)
    state = read_weights(rest)
    model = chexzero_model(state, name, rest)
    model.licence = licence_of(rest)
    fill_model(model, state, rest)
    return model


def chexzero_model(state: dict, name: str, source: object) -> Model:
    """The unfilled network of a state dict in OpenAI's names; its shapes tell it."""
    from open_clip import get_tokenizer
    from open_clip.model import build_model_from_openai_state_dict

    missing = set(OPENAI_NAMES) - set(state)
    if missing:
        raise ValueError(
            f"expected CheXzero's checkpoint (OpenAI CLIP's names) in {source}, got "
            f"one without {', '.join(sorted(missing))}"
        )
    for key in OPENAI_MARKS:
        state.pop(key, None)
    net = build_model_from_openai_state_dict(dict(state), cast_dtype=torch.float32)
    return Model(
        net.float(),  # in between it was float16
        name,
        "image-text",
        net.visual.conv1.kernel_size[0] * net.visual.grid_size[0],
        channels=3,
        mean=(CHEXZERO_MEAN,) * 3,
        std=(CHEXZERO_STD,) * 3,
        # its data_process.py pads to 320 px with black, its zero_shot.py resizes that
        # to the tower's side
        fit=data.fit.Fit("pad", filter="bicubic"),
        grid=net.visual.grid_size,
        spec={"builder": "chexzero"},
        tokenizer=get_tokenizer("ViT-B-32", context_length=net.context_length),
        notes=(
            "CheXzero's films went through 320 px on their way (Lanczos, then "
            "bicubic); here they are resized once",
        ),
    )
