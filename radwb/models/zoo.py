"""`load` and `save`: a name or a folder -> a `Model`, and back. Weights are read as tensors, never as pickled code."""

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import save_file

from radwb.models.adapters import DINO, load_monai, load_timm, load_xrv, monai_model, timm_model, xrv_model
from radwb.models.clips import (
    CONFIG,
    chexzero_model,
    load_chexzero,
    load_config_folder,
    load_open_clip,
    open_clip_from_config,
)
from radwb.models.model import Model
from radwb.models.sources import fill, read_weights
from radwb.models.text import MiniLM, WordPieces, clip_on_minilm
from radwb.models.tiny import clip_tiny, supervised_tiny
from radwb.models.tokenizer import Tokenizer

SHIPPED = Path(__file__).parent / "weights"
KEPT = ("kind", "size", "channels", "mean", "std", "fit", "findings", "licence")


def load(name: str | Path, *, download: bool = False, size: int | None = None) -> Model | MiniLM:
    """A model by name. Nothing is downloaded unless you say so; what is here already is used without asking.

    >>> load("radwb-tiny")                              # shipped with the package
    >>> load("../runs/clip-tiny")                       # a run of rw.pretrain.fit, or a folder written by `save`
    >>> load("open_clip:ViT-B-32/laion2b_s34b_b79k", download=True)   # a tag
    >>> load("open_clip:ViT-B-32/weights.safetensors")  # a file
    >>> load("../BiomedCLIP")                           # open_clip's own folder: open_clip_config.json and weights
    >>> load("open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", download=True)
    >>> load("chexzero:best_64_5e-05_original.pt")      # CheXzero's checkpoints
    >>> load("timm:vit_tiny_patch16_224")               # no weights named: random ones
    >>> load("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", download=True)
    >>> load("timm:rad-dino/model.safetensors", size=224)    # or dinov2-base and so on, as their hubs have them
    >>> load("monai:DenseNet121/weights.pt")            # 2-D nets of MONAI; its ViT with 12 heads
    >>> load("xrv:densenet121-res224-all", download=True)    # if torchxrayvision is installed
    >>> load("minilm")                                  # a `MiniLM`: frozen text alone

    Args:
        download: leave to use the network. Without it, a terminal is asked (y/N) and any other caller gets the error.
        size: side of the input, px, for towers that take several: timm's and MONAI's DenseNets.
    Raises:
        ValueError: no such model, a file that is not plain tensors, weights that don't fit, or a download that nobody
            allowed: it states source, size and licence.
        FileNotFoundError: no such folder.
    """
    text = str(name)
    library, _, rest = text.partition(":")
    if library in LIBRARIES and rest:
        return LIBRARIES[library](rest, text, download=download, size=size)
    if text == "minilm":
        return MiniLM(download=download)
    folder = SHIPPED / text if (SHIPPED / text / "model.json").is_file() else Path(name)
    if (folder / CONFIG).is_file():
        return load_config_folder(folder, text, download=download)
    if not (folder / "model.json").is_file():
        raise FileNotFoundError(_no_folder(folder))
    return _load_folder(folder, text, download)


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
    if isinstance(model.tokenizer, Tokenizer | WordPieces) and model.spec.get("builder") != "clip-on-minilm":
        model.tokenizer.save(folder / "tokenizer.json")
    return folder


def available(contains: str = "") -> list[str]:
    """The names that `load` knows here, e.g. available("convnext"); runs are loaded by their folder."""
    import open_clip
    import timm

    names = [p.parent.name for p in sorted(SHIPPED.glob("*/model.json"))]
    names += [f"open_clip:{n}" for n in open_clip.list_models()] + [f"timm:{n}" for n in [*timm.list_models(), *DINO]]
    names += ["minilm"]
    if find_spec("torchxrayvision"):
        import torchxrayvision

        names += [f"xrv:{n}" for n in torchxrayvision.models.model_urls]
    return [n for n in names if contains.lower() in n.lower()]


def _load_folder(folder, name, download):
    about = json.loads((folder / "model.json").read_text())
    spec, state = about["spec"], read_weights(folder / "model.safetensors")
    if spec["builder"] == "clip-tiny":
        tokenizer = Tokenizer.load(folder / "tokenizer.json", context=spec["context"])
        model = clip_tiny(tokenizer, shape=spec["shape"], name=name)
    elif spec["builder"] == "supervised-tiny":
        model = supervised_tiny(spec["findings"], shape=spec["shape"], name=name)
    elif spec["builder"] == "clip-on-minilm":
        model = clip_on_minilm(shape=spec["shape"], name=name, download=download)
    else:
        model = _adapted(spec, state, name, folder, download)
    for key in KEPT:
        setattr(model, key, tuple(about[key]) if key in ("mean", "std") else about[key])
    fill(model.net, state, folder)
    return model


def _adapted(spec, state, name, folder, download):
    """The unfilled network of another library."""
    builder, arch = spec["builder"], spec.get("arch")
    if builder == "open_clip-config":
        return open_clip_from_config(spec["config"], state, name, folder / "tokenizer.json", download=download)
    if builder == "chexzero":
        return chexzero_model(state, name, folder)
    if builder == "timm":
        return timm_model(arch, name, spec.get("size"))
    if builder == "monai":
        return monai_model(arch, state, name, folder, spec["size"])
    if builder == "xrv":
        return xrv_model(arch, state, name)
    return load_open_clip(arch, name, download=download, size=None)


LIBRARIES = {"open_clip": load_open_clip, "chexzero": load_chexzero, "timm": load_timm, "xrv": load_xrv,
             "monai": load_monai}  # fmt: skip


def _no_folder(folder):
    if folder.is_dir() and (folder / "checkpoint.safetensors").is_file():
        return f"expected a finished run in {folder}, got a stopped one. Call rw.pretrain.fit again to resume."
    known = ", ".join(f"{k}:NAME" for k in LIBRARIES)
    return (f"expected a run, a folder written by rw.models.save, or {known}; got {str(folder)!r}, without a "
            "model.json. A run is made by notebook 02_pretraining or by `radwb pretrain`.")  # fmt: skip
