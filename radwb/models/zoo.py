"""`load` and `save`: a name or a folder -> a `Model`, and back. Weights are read as tensors, never as pickled code."""

import json
import pickle
from difflib import get_close_matches
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from radwb.models.model import Model
from radwb.models.tiny import clip_tiny, supervised_tiny
from radwb.models.tokenizer import Tokenizer

SHIPPED = Path(__file__).parent / "weights"
KEPT = ("kind", "size", "channels", "mean", "std", "fit", "findings", "licence")
XRV_NAMES = {"Effusion": "Pleural Effusion"}  # the rest of TorchXRayVision's names are CheXpert's or have no match


def load(name: str | Path) -> Model:
    """A model by name.

    >>> load("radwb-tiny")                              # shipped with the package
    >>> load("../runs/clip-tiny")                       # a run of rw.pretrain.fit, or a folder written by `save`
    >>> load("open_clip:ViT-B-32/laion2b_s34b_b79k")    # a tag: open_clip downloads it, once
    >>> load("open_clip:ViT-B-32/weights.safetensors")  # a file
    >>> load("timm:vit_tiny_patch16_224")               # no weights named: random ones
    >>> load("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    >>> load("xrv:densenet121-res224-all")              # if torchxrayvision is installed; it unpickles its own files

    Raises:
        ValueError: no such model, a file that is not plain tensors, or weights that don't fit.
        FileNotFoundError: no such folder.
    """
    text = str(name)
    library, _, rest = text.partition(":")
    if library in LIBRARIES and rest:
        return LIBRARIES[library](rest, text)
    folder = SHIPPED / text if (SHIPPED / text / "model.json").is_file() else Path(name)
    if not (folder / "model.json").is_file():
        raise FileNotFoundError(_no_folder(folder))
    return _load_folder(folder, text)


def save(model: Model, folder: str | Path, *, half: bool = False) -> Path:
    """Write model.safetensors, model.json and, with a radwb tokenizer, tokenizer.json; `load(folder)` reads them.

    Args:
        half: keep numbers as bfloat16, in half the bytes; loaded, they are float32 again.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.net.state_dict().items()}
    if half:
        tensors = {k: v.bfloat16() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    about = {k: getattr(model, k) for k in KEPT} | {"spec": model.spec, "radwb": version("radwb")}
    (folder / "model.json").write_text(json.dumps(about, indent=1))
    if isinstance(model.tokenizer, Tokenizer):
        model.tokenizer.save(folder / "tokenizer.json")
    return folder


def available(contains: str = "") -> list[str]:
    """The names that `load` knows here, e.g. available("convnext"); runs are loaded by their folder."""
    import open_clip
    import timm

    names = [p.parent.name for p in sorted(SHIPPED.glob("*/model.json"))]
    names += [f"open_clip:{n}" for n in open_clip.list_models()] + [f"timm:{n}" for n in timm.list_models()]
    if find_spec("torchxrayvision"):
        import torchxrayvision

        names += [f"xrv:{n}" for n in torchxrayvision.models.model_urls]
    return [n for n in names if contains.lower() in n.lower()]


def _load_folder(folder, name):
    about = json.loads((folder / "model.json").read_text())
    spec = about["spec"]
    if spec["builder"] == "clip-tiny":
        tokenizer = Tokenizer.load(folder / "tokenizer.json", context=spec["context"])
        model = clip_tiny(tokenizer, shape=spec["shape"], name=name)
    elif spec["builder"] == "supervised-tiny":
        model = supervised_tiny(spec["findings"], shape=spec["shape"], name=name)
    else:
        model = LIBRARIES[spec["builder"]](spec["arch"], name)
    for key in KEPT:
        setattr(model, key, tuple(about[key]) if key in ("mean", "std") else about[key])
    _fill(model.net, read_weights(folder / "model.safetensors"), folder)
    return model


def _load_open_clip(rest, name):
    import open_clip

    arch, _, weights = rest.partition("/")
    _check_name(arch, open_clip.list_models(), "open_clip")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if weights and weights not in tags and not Path(weights).is_file():
        few = ", ".join(tags[:6]) or "it has none"
        raise ValueError(f"expected a file or a tag of {arch} ({few} ...), got {weights!r}")
    net = _library_call(name, open_clip.create_model, arch, pretrained=weights if weights in tags else None,
                        pretrained_text=False)  # fmt: skip
    if weights and weights not in tags:
        _fill(net, read_weights(weights), weights)
    cfg = open_clip.get_model_preprocess_cfg(net)
    size = _side(cfg["size"])
    fit = {"shortest": "crop", "longest": "pad", "squash": "squash"}[cfg.get("resize_mode", "shortest")]
    tokenizer = _library_call(name, open_clip.get_tokenizer, arch)
    return Model(net, name, "image-text", size, 3, tuple(cfg["mean"]), tuple(cfg["std"]), fit,
                 _grid(net.visual, size), spec={"builder": "open_clip", "arch": arch}, tokenizer=tokenizer,
                 licence=_licence(weights))  # fmt: skip


def _load_timm(rest, name):
    import timm

    arch, _, weights = rest.partition("/")
    base, _, tag = arch.partition(".")
    _check_name(base, timm.list_models(), "timm")
    net = _library_call(name, timm.create_model, arch, pretrained=bool(tag) and not weights)
    if weights:
        _fill(net, read_weights(weights), weights)
    cfg = timm.data.resolve_model_data_config(net)
    channels, size, _ = cfg["input_size"]
    licence = (net.pretrained_cfg.get("license") or "") if tag and not weights else _licence(weights)
    return Model(net, name, "image", size, channels, tuple(cfg["mean"])[:channels], tuple(cfg["std"])[:channels],
                 "crop", _grid(net, size), spec={"builder": "timm", "arch": base}, licence=licence)  # fmt: skip


def _load_xrv(rest, name):
    if not find_spec("torchxrayvision"):
        raise ValueError("expected the package torchxrayvision, which is not installed. Try: pip install 'radwb[xrv]'")
    import torchxrayvision as xrv

    _check_name(rest, list(xrv.models.model_urls), "xrv")
    net = _library_call(name, xrv.models.get_model, rest)
    net.op_threshs = None  # else its forward gives calibrated scores, and `classify` promises logits
    findings = [XRV_NAMES.get(p, p.replace("_", " ")) for p in net.pathologies]
    scale = 1 / 2048  # its networks see [-1024, 1024]
    return Model(net, name, "image", 224, 1, (0.5,), (scale,), "crop", (7, 7), findings=findings,
                 spec={"builder": "xrv", "arch": rest}, licence=_licence(rest))  # fmt: skip


LIBRARIES = {"open_clip": _load_open_clip, "timm": _load_timm, "xrv": _load_xrv}


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors from a .safetensors file, or from a torch file that holds nothing but tensors."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of weights, got {path}, which is not there")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"expected plain tensors in {path.name}, got something that can't be read as such "
            f"({str(error).splitlines()[0][:90]}). radwb runs no pickled code; "
            "where you trust it, try safetensors.torch.save_file(net.state_dict(), ...)."
        ) from None
    state = next((state[k] for k in ("state_dict", "model") if isinstance(state.get(k), dict)), state)
    return {k.removeprefix("module."): v for k, v in state.items()}


def _fill(net, tensors, source):
    from open_clip.factory import convert_state_dict

    try:
        net.load_state_dict(convert_state_dict(net, tensors) if hasattr(net, "visual") else tensors)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ValueError(f"expected the weights of {type(net).__name__}, got others in {source} "
                         f"({lines[min(1, len(lines) - 1)].strip()[:120]} ...)") from None  # fmt: skip


def _library_call(name, make, *args, **kwargs):
    try:
        return make(*args, **kwargs)
    except Exception as error:  # whatever a library or its downloader throws becomes one sentence
        raise ValueError(f"{name}: {make.__module__.split('.')[0]} could not make it ({type(error).__name__}: "
                         f"{str(error).splitlines()[0][:160] if str(error) else ''}). Tags need a network; "
                         "without one name a file: 'open_clip:ARCH/weights.safetensors'.") from error  # fmt: skip


def _check_name(arch, names, library):
    if arch not in names:
        near = get_close_matches(arch, names, n=3, cutoff=0.4)
        raise ValueError(f"expected a name that {library} knows, got {arch!r}. "
                         f"Try {' or '.join(f'{library}:{n}' for n in near) or 'rw.models.available()'}.")  # fmt: skip


def _grid(tower, size):
    tower = getattr(tower, "trunk", tower)
    grid = getattr(tower, "grid_size", None) or getattr(getattr(tower, "patch_embed", None), "grid_size", None)
    if grid:
        return tuple(grid)
    info = getattr(tower, "feature_info", None)
    step = info[-1]["reduction"] if info else 32
    return (size // step, size // step)


def _side(size):
    return size if isinstance(size, int) else size[0]


def _licence(weights):
    return f"as its source says: {Path(weights).name}" if weights else "random weights"


def _no_folder(folder):
    if folder.is_dir() and (folder / "checkpoint.safetensors").is_file():
        return f"expected a finished run in {folder}, got a stopped one. Call rw.pretrain.fit again to resume."
    known = ", ".join(f"{k}:NAME" for k in LIBRARIES)
    return (f"expected a run, a folder written by rw.models.save, or {known}; got {str(folder)!r}, without a "
            "model.json. A run is made by notebook 02_pretraining or by `radwb pretrain`.")  # fmt: skip
