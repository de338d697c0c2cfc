"""`load` and `save`: a name or a folder -> a `Model`, and back. Weights are read as
tensors, never as pickled code.
"""

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import save_file

from radwb import data
from radwb.models.adapters import (
    DENSENETS,
    DINO,
    check_name,
    load_monai,
    load_timm,
    load_xrv,
    monai_model,
    timm_model,
    xrv_model,
)
from radwb.models.checks import (
    MAX_REPEATS,
    MAX_SIDE,
    check_config,
    check_preprocessing,
    mapping,
    outline,
    part,
    printable,
    read_json,
    require_whole,
    whole,
)
from radwb.models.clips import (
    CONFIG,
    chexzero_model,
    load_chexzero,
    load_config_folder,
    load_open_clip,
    open_clip_from_config,
    open_clip_model,
)
from radwb.models.model import Model
from radwb.models.sources import fill, misfits, read_plain
from radwb.models.text import MiniLM, WordPieces, clip_on_minilm
from radwb.models.tiny import clip_tiny, supervised_tiny
from radwb.models.tokenizer import Tokenizer

SHIPPED = Path(__file__).parent / "weights"
KEPT = ("kind", "size", "channels", "mean", "std", "fit", "findings", "licence")


def load(
    name: str | Path,
    *,
    download: bool = False,
    size: int | None = None,
    like: str | None = None,
    heads: int | None = None,
) -> Model | MiniLM:
    """A model by name. Nothing is downloaded unless you say so; what is here already is
    used without asking.

    >>> load("radwb-tiny")                              # shipped with the package
    >>> load("../runs/clip-tiny")                       # a run of rw.pretrain.fit, or a folder written by `save`
    >>> load("open_clip:ViT-B-32/laion2b_s34b_b79k", download=True)   # a tag
    >>> load("open_clip:ViT-B-32/weights.safetensors", like="openai")  # a file, fed as that tag's weights
    >>> load("../BiomedCLIP")                           # open_clip's own folder: open_clip_config.json and weights
    >>> load("open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", download=True)
    >>> load("chexzero:best_64_5e-05_original.pt")      # CheXzero's checkpoints
    >>> load("timm:vit_tiny_patch16_224")               # no weights named: random ones
    >>> load("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", download=True)
    >>> load("timm:rad-dino/model.safetensors", size=224)    # or dinov2-base and so on, as their hubs have them
    >>> load("monai:DenseNet121/weights.pt")            # 2-D nets of MONAI; its ViT needs heads=
    >>> load("xrv:densenet121-res224-all", download=True)    # if torchxrayvision is installed
    >>> load("minilm")                                  # a `MiniLM`: frozen text alone

    Args:
        download: leave to use the network. Without it, a terminal is asked (y/N) and
            any other caller gets the error.
        size: side of the input, px, for towers that take several: timm's and MONAI's
            DenseNets.
        like: for open_clip's towers from a file, the tag whose preprocessing and
            activation (GELU or QuickGELU) the weights have. Needed where published
            weights of the architecture differ and the file doesn't tell.
        heads: of MONAI's ViT, which the shapes of its weights don't tell.
    Returns:
        the model; its `notes` say what was taken off the file's names, and what was
        taken for granted.
    Raises:
        ValueError: no such model, a file that is not plain tensors, weights that don't
            fit or take more than `rw.models.checks.MAX_BYTES` (32 GiB), a model.json
            that says what can't be, or a download that nobody allowed: it states
            source, size and licence.
        FileNotFoundError: no such folder.
    """
    try:
        return _load(str(name), download, size, like, heads)
    except (ValueError, FileNotFoundError) as error:
        # names come from users and files: they must not move a terminal
        if type(error) not in (ValueError, FileNotFoundError) or "expected" not in str(
            error
        ):  # a library's own
            raise _refused(name, error) from error
        raise type(error)(printable(error)) from error.__cause__
    except Exception as error:  # a damaged file can break a library anywhere
        raise _refused(name, error) from error


def _refused(name, error):
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ValueError(
        printable(
            f"expected a model that can be built from {name}, got one that can't ({text}). "
            "Try the file as its library wrote it."
        )
    )


def _load(text, download, size, like, heads):
    library, _, rest = text.partition(":")
    if like and library != "open_clip":
        raise ValueError(
            f"expected like= for open_clip's towers alone, got it for {text}"
        )
    if heads and not text.startswith("monai:ViT"):
        raise ValueError(f"expected heads= for monai:ViT alone, got it for {text}")
    if library in LIBRARIES and rest:
        options = {"like": like} if like else {"heads": heads} if heads else {}
        return LIBRARIES[library](rest, text, download=download, size=size, **options)
    if text == "minilm":
        return MiniLM(download=download)
    folder = SHIPPED / text if (SHIPPED / text / "model.json").is_file() else Path(text)
    if (folder / CONFIG).is_file():
        return load_config_folder(folder, text, download=download)
    if not (folder / "model.json").is_file():
        raise FileNotFoundError(_no_folder(folder))
    return _load_folder(folder, text, download)


def save(model: Model, folder: str | Path, *, half: bool = False) -> Path:
    """Write model.safetensors, model.json and, with a radwb tokenizer, tokenizer.json;
    `load(folder)` reads them.

    Args:
        half: keep numbers as bfloat16, in half the bytes; loaded, they are float32
            again.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        k: v.detach().cpu().contiguous() for k, v in model.net.state_dict().items()
    }
    if half:
        tensors = {
            k: v.bfloat16() if v.is_floating_point() else v for k, v in tensors.items()
        }
    save_file(tensors, folder / "model.safetensors")
    about = {k: getattr(model, k) for k in KEPT} | {
        "spec": model.spec,
        "radwb": version("radwb"),
    }
    fit = data.fit.Fit(model.fit)
    if (fit.filter, fit.share) != ("bilinear", 1):
        about |= {"filter": fit.filter, "share": fit.share}
    about |= {"notes": list(model.notes)} if model.notes else {}
    (folder / "model.json").write_text(json.dumps(about, indent=1))
    if (
        isinstance(model.tokenizer, Tokenizer | WordPieces)
        and model.spec.get("builder") != "clip-on-minilm"
    ):
        model.tokenizer.save(folder / "tokenizer.json")
    return folder


def available(contains: str = "") -> list[str]:
    """The names that `load` knows here, e.g. available("convnext"); runs are loaded by
    their folder.
    """
    import open_clip
    import timm

    names = [p.parent.name for p in sorted(SHIPPED.glob("*/model.json"))]
    names += [f"open_clip:{n}" for n in open_clip.list_models()] + [
        f"timm:{n}" for n in [*timm.list_models(), *DINO]
    ]
    names += ["minilm"]
    if find_spec("torchxrayvision"):
        import torchxrayvision

        names += [f"xrv:{n}" for n in torchxrayvision.models.model_urls]
    return [n for n in names if contains.lower() in n.lower()]


def _load_folder(folder, name, download):
    about = read_json(folder / "model.json")
    if (folder / "config.json").is_file():  # a run's, which knows its checksums
        require_whole(folder, read_json(folder / "config.json"))
    spec = _checked(about)
    state = read_plain(folder / "model.safetensors")
    builder = part(spec, "builder", "spec")
    own = {
        "clip-tiny": lambda: _clip_tiny(folder, spec, name),
        "supervised-tiny": lambda: supervised_tiny(
            _names(spec, "findings"), shape=_shape(spec), name=name
        ),
        "clip-on-minilm": lambda: clip_on_minilm(
            shape=_shape(spec), name=name, download=download
        ),
    }
    if builder in own:
        # its shape is compared with the file before it takes any memory
        if builder != "clip-on-minilm":
            _compare(outline(lambda: own[builder]().net, "model.json"), state, folder)
        model = own[builder]()
    else:
        model = _adapted(spec, state, name, folder, download)
    _take_over(model, about)
    fill(model.net, state, folder)
    return model


def _checked(about):
    """The spec of a model.json that says nothing impossible."""
    check_config(about, "model.json")
    for key in KEPT:
        part(about, key, "model.json")
    check_preprocessing(
        *(about[key] for key in ("size", "channels", "mean", "std", "fit"))
    )
    if about["kind"] not in ("image", "image-text"):
        raise ValueError(
            f"expected kind 'image' or 'image-text' in model.json, got {str(about['kind'])[:60]!r}"
        )
    if not isinstance(about["licence"], str):
        raise ValueError("expected words as licence in model.json, got something else")
    if about["findings"] is not None:
        _names(about, "findings")
    return mapping(part(about, "spec", "model.json"), "spec")


def _names(about, key):
    """A list of words."""
    names = part(about, key, "model.json")
    if (
        not isinstance(names, list)
        or not all(isinstance(n, str) for n in names)
        or len(names) > 10_000
    ):
        raise ValueError(
            f"expected a list of words as {key} in model.json, got {str(names)[:60]!r}"
        )
    return names


def _shape(spec):
    shape = mapping(part(spec, "shape", "spec"), "shape")
    for key, value in shape.items():
        whole(
            value,
            f"{key} of the shape",
            low=0,
            high=MAX_REPEATS if "layers" in key else MAX_SIDE,
        )
    for key in ("size", "patch", "width", "heads", "embed"):
        whole(part(shape, key, "shape"), f"{key} of the shape", high=MAX_SIDE)
    if shape["width"] % shape["heads"]:
        raise ValueError(
            f"expected a width that is a multiple of the {shape['heads']} heads, got {shape['width']}"
        )
    return shape


def _clip_tiny(folder, spec, name):
    context = whole(part(spec, "context", "spec"), "context", low=3, high=4096)
    tokenizer = Tokenizer.load(folder / "tokenizer.json", context=context)
    return clip_tiny(tokenizer, shape=_shape(spec), name=name)


def _compare(net, state, folder):
    wrong = misfits(net, state)
    if wrong:
        some = ", ".join(f"{key} ({why})" for key, why in list(wrong.items())[:4])
        raise ValueError(
            f"expected the weights of {type(net).__name__} that model.json describes in {folder}, "
            f"got others: {some}"
        )


def _take_over(model, about):
    """What model.json says of a built model, where the two agree on what can't differ."""
    for key in ("kind", "size", "channels"):
        if about[key] != getattr(model, key):
            raise ValueError(
                f"expected {key} {getattr(model, key)!r} in model.json, as the network has it, "
                f"got {about[key]!r}"
            )
    for key in KEPT:
        setattr(model, key, tuple(about[key]) if key in ("mean", "std") else about[key])
    model.fit = data.fit.Fit(
        about["fit"],
        filter=about.get("filter", "bilinear"),
        share=about.get("share", 1.0),
    )
    notes = about.get("notes", [])
    model.notes = (
        tuple(str(n)[:500] for n in notes[:50]) if isinstance(notes, list) else ()
    )


def _adapted(spec, state, name, folder, download):
    """The unfilled network of another library."""
    builder, arch = spec["builder"], spec.get("arch")
    if builder == "open_clip-config":
        config = part(spec, "config", "spec")
        return open_clip_from_config(
            config, state, name, folder / "tokenizer.json", download=download
        )
    if builder == "chexzero":
        return chexzero_model(dict(state), name, folder)
    if builder not in ("timm", "monai", "xrv", "open_clip") or not isinstance(
        arch, str
    ):
        got = f"{str(builder)[:60]!r} and {str(arch)[:60]!r}"
        raise ValueError(
            f"expected a builder that radwb has and an arch in model.json, got {got}"
        )
    size = spec.get("size")
    size = None if size is None else whole(size, "size", high=MAX_SIDE)
    if builder == "timm":
        import timm

        check_name(arch, timm.list_models(), "timm")
        return timm_model(arch, name, size)
    if builder == "monai":
        check_name(arch, [*DENSENETS, "ViT"], "monai")
        # until heads were asked for, radwb built all with 12
        return monai_model(
            arch,
            state,
            name,
            folder,
            size,
            whole(spec.get("heads", 12), "heads", high=MAX_SIDE),
        )
    if builder == "xrv":
        return xrv_model(arch, state, name)
    return open_clip_model(
        arch, name, spec.get("quick_gelu") is True, download=download
    )


LIBRARIES = {
    "open_clip": load_open_clip,
    "chexzero": load_chexzero,
    "timm": load_timm,
    "xrv": load_xrv,
    "monai": load_monai,
}


def _no_folder(folder):
    if folder.is_dir() and (folder / "checkpoint.safetensors").is_file():
        return f"expected a finished run in {folder}, got a stopped one. Call rw.pretrain.fit again to resume."
    known = ", ".join(f"{k}:NAME" for k in LIBRARIES)
    return (
        f"expected a run, a folder written by rw.models.save, or {known}; got {str(folder)!r}, without a "
        "model.json. A run is made by notebook 02_pretraining or by `radwb pretrain`."
    )
