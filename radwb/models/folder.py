"""A model's own folder: written by `save`, read back with every claim in it checked."""

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path

import timm
from safetensors.torch import save_file

from radwb import data
from radwb.models.checks import (
    MAX_REPEATS,
    MAX_SIDE,
    check_config,
    check_preprocessing,
    mapping,
    outline,
    part,
    read_json,
    require_whole,
    whole,
)
from radwb.models.classifiers import MONAI_NAMES, monai_model, xrv_model
from radwb.models.clip_tags import open_clip_model
from radwb.models.clips import chexzero_model, open_clip_from_config
from radwb.models.hub import check_name, quiet
from radwb.models.model import Model
from radwb.models.sources import fill, read_plain, require_fit
from radwb.models.text import WordPieces, clip_on_minilm
from radwb.models.timm_towers import timm_model
from radwb.models.tiny import clip_tiny, supervised_tiny
from radwb.models.tokenizer import Tokenizer
from radwb.models.tone import check_tone

# what model.json says of a Model, in its own names
FIELDS = ("kind", "size", "channels", "mean", "std", "fit", "findings", "licence")
FIXED = ("kind", "size", "channels")  # of these the network itself knows
LIBRARY_BUILDERS = ("timm", "monai", "xrv", "open_clip")
SIZES = ("size", "patch", "width", "heads", "embed")  # of a shape, at least 1


def save(model: Model, folder: str | Path, *, half: bool = False) -> Path:
    """Write a model to a folder that `load` reads, to keep or hand on one of your own.

    It gets model.safetensors, model.json and, with a radwb tokenizer, tokenizer.json.

    >>> folder = save(model, "handed-on", half=True)
    >>> rw.models.load(folder).name
    'handed-on'

    Args:
        folder: made where it isn't there.
        half: keep numbers as bfloat16, in half the bytes; loaded, they are float32
            again.
    Returns:
        the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in model.net.state_dict().items():
        if half and tensor.is_floating_point():
            tensor = tensor.bfloat16()
        tensors[name] = tensor.detach().cpu().contiguous()
    save_file(tensors, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(_described(model), indent=1))
    own_text = isinstance(model.tokenizer, Tokenizer | WordPieces)
    if own_text and model.spec.get("builder") != "clip-on-minilm":
        model.tokenizer.save(folder / "tokenizer.json")
    return folder


def _described(model):
    """What model.json says of a model."""
    about = {key: getattr(model, key) for key in FIELDS}
    about |= {"spec": model.spec, "radwb": version("radwb")}
    fit = data.fit.Fit(model.fit)
    if (fit.filter, fit.share) != ("bilinear", 1):
        about |= {"filter": fit.filter, "share": fit.share}
    if model.tone != "plain":
        about["tone"] = model.tone
    if model.notes:
        about["notes"] = list(model.notes)
    return about


def load_folder(folder: Path, name: str, *, download: bool = False) -> Model:
    """What `save` wrote; every claim in it is checked before anything is built.

    Raises:
        ValueError: model.json says what can't be, or the weights are another's.
    """
    about = read_json(folder / "model.json")
    if (folder / "config.json").is_file():  # a run's, which knows its checksums
        require_whole(folder, read_json(folder / "config.json"))
    spec = _checked_spec(about)
    state = read_plain(folder / "model.safetensors")
    model = _unfilled(spec, state, name, folder, download)
    _take_over(model, about)
    fill(model.net, state, folder)
    return model


def _checked_spec(about):
    """The spec of a model.json that says nothing impossible."""
    check_config(about, "model.json")
    for key in FIELDS:
        part(about, key, "model.json")
    feeding = (about[key] for key in ("size", "channels", "mean", "std", "fit"))
    check_preprocessing(*feeding)
    if about["kind"] not in ("image", "image-text"):
        raise ValueError(
            "expected kind 'image' or 'image-text' in model.json, got "
            f"{str(about['kind'])[:60]!r}"
        )
    if not isinstance(about["licence"], str):
        raise ValueError("expected words as licence in model.json, got something else")
    if about["findings"] is not None:
        _words(about, "findings")
    return mapping(part(about, "spec", "model.json"), "spec")


def _words(about, key):
    """A list of words."""
    words = part(about, key, "model.json")
    short = isinstance(words, list) and len(words) <= 10_000
    if not short or not all(isinstance(word, str) for word in words):
        raise ValueError(
            f"expected a list of words as {key} in model.json, got {str(words)[:60]!r}"
        )
    return words


def _shape(spec):
    """The shape of a tower of radwb's own, within what memory and loops allow."""
    shape = mapping(part(spec, "shape", "spec"), "shape")
    for key, value in shape.items():
        most = MAX_REPEATS if "layers" in key else MAX_SIDE
        whole(value, f"{key} of the shape", low=0, high=most)
    for key in SIZES:
        whole(part(shape, key, "shape"), f"{key} of the shape", high=MAX_SIDE)
    if shape["width"] % shape["heads"]:
        raise ValueError(
            f"expected a width that is a multiple of the {shape['heads']} heads, got "
            f"{shape['width']}"
        )
    return shape


def _unfilled(spec, state, name, folder, download):
    """The network that model.json describes, with random weights."""
    builder = part(spec, "builder", "spec")
    if builder == "clip-on-minilm":
        return clip_on_minilm(shape=_shape(spec), name=name, download=download)
    if builder == "clip-tiny":
        make = partial(_clip_tiny, spec, name, folder)
    elif builder == "supervised-tiny":
        findings = _words(spec, "findings")
        make = partial(supervised_tiny, findings, shape=_shape(spec), name=name)
    elif builder == "open_clip-config":
        config = part(spec, "config", "spec")
        file = folder / "tokenizer.json"
        return open_clip_from_config(config, state, name, file, download=download)
    elif builder == "chexzero":
        return chexzero_model(dict(state), name, folder)
    else:
        return _of_library(spec, state, name, folder, download)
    # its shape is compared with the file before it takes any memory
    planned = outline(lambda: make().net, "model.json")
    expected = f"of {type(planned).__name__} that model.json describes"
    require_fit(planned, state, expected, folder)
    return make()


def _clip_tiny(spec, name, folder):
    context = whole(part(spec, "context", "spec"), "context", low=3, high=4096)
    tokenizer = Tokenizer.load(folder / "tokenizer.json", context=context)
    return clip_tiny(tokenizer, shape=_shape(spec), name=name)


def _of_library(spec, state, name, folder, download):
    """The network that another library has a name for."""
    builder = spec["builder"]
    arch = spec.get("arch")
    if builder not in LIBRARY_BUILDERS or not isinstance(arch, str):
        raise ValueError(
            "expected a builder that radwb has and an arch in model.json, got "
            f"{str(builder)[:60]!r} and {str(arch)[:60]!r}"
        )
    if builder == "xrv":
        return xrv_model(arch, state, name)
    if builder == "open_clip":
        quick_gelu = spec.get("quick_gelu") is True
        with quiet():
            return open_clip_model(arch, name, quick_gelu, download=download)
    size = spec.get("size")
    if size is not None:
        whole(size, "size", high=MAX_SIDE)
    if builder == "timm":
        check_name(arch, timm.list_models(), "timm")
        return timm_model(arch, name, size)
    check_name(arch, MONAI_NAMES, "monai")
    # until heads were asked for, radwb built all with 12
    heads = whole(spec.get("heads", 12), "heads", high=MAX_SIDE)
    return monai_model(arch, state, name, folder, size, heads)


def _take_over(model, about):
    """Set what model.json says of a built model; what can't differ has to agree."""
    for key in FIXED:
        built = getattr(model, key)
        if about[key] != built:
            raise ValueError(
                f"expected {key} {built!r} in model.json, as the network has it, "
                f"got {about[key]!r}"
            )
    model.mean = tuple(about["mean"])
    model.std = tuple(about["std"])
    model.findings = about["findings"]
    model.licence = about["licence"]
    model.tone = check_tone(about.get("tone", "plain"))
    resample = about.get("filter", "bilinear")
    share = about.get("share", 1.0)
    model.fit = data.fit.Fit(about["fit"], filter=resample, share=share)
    notes = about.get("notes", [])
    model.notes = ()
    if isinstance(notes, list):
        model.notes = tuple(str(note)[:500] for note in notes[:50])
