"""`load`: a name or a folder -> a `Model`. Weights are tensors, never pickled code."""

from importlib.util import find_spec
from pathlib import Path

import open_clip
import timm

from radwb.models.checks import printable
from radwb.models.classifiers import load_monai, load_xrv
from radwb.models.clip_tags import load_open_clip
from radwb.models.clips import CONFIG, load_chexzero, load_config_folder
from radwb.models.encoders3d import ENCODERS, load_encoder
from radwb.models.folder import load_folder
from radwb.models.keras_file import load_keras
from radwb.models.language import Writer
from radwb.models.model import Model
from radwb.models.net3d import Net3d
from radwb.models.published import PUBLISHED
from radwb.models.text import MiniLM
from radwb.models.timm_towers import DINO, load_timm

SHIPPED = Path(__file__).parent / "weights"
LIBRARIES = {
    "open_clip": load_open_clip,
    "chexzero": load_chexzero,
    "timm": load_timm,
    "xrv": load_xrv,
    "monai": load_monai,
    "keras": load_keras,
    **dict.fromkeys(ENCODERS, load_encoder),
}


def load(
    name: str | Path,
    *,
    download: bool = False,
    size: int | None = None,
    like: str | None = None,
    heads: int | None = None,
) -> Model | MiniLM | Net3d | Writer:
    """A model by name. Nothing is downloaded unless you say so.

    What is here already is used without asking.

    >>> load("radwb-tiny").kind                 # shipped with the package
    'image-text'
    >>> load("timm:resnet10t").notes            # random weights, as its licence says
    ()

    Other names, of which the first is a run of `rw.pretrain.fit` or a folder that
    `save` wrote::

        load("../runs/clip-tiny")
        load("open_clip:ViT-B-32/laion2b_s34b_b79k", download=True)    # a tag
        load("open_clip:ViT-B-32/weights.safetensors", like="openai")  # fed as that tag
        load("open_clip:local-dir:FOLDER")           # in open_clip's format
        load("open_clip:hf-hub:OWNER/NAME", download=True)             # BiomedCLIP's
        load("chexzero:best_64_0.0001_original_16000_0.864.pt")
        load("timm:vit_base_patch16_224.augreg_in21k_ft_in1k", download=True)
        load("timm:rad-dino/model.safetensors", size=224)  # or dinov2-base and so on
        load("monai:DenseNet121/weights.pt")         # its ViT needs heads=
        load("xrv:densenet121-res224-all", download=True)  # with torchxrayvision
        load("keras:FILE.keras")                     # an image classifier of Keras 3
        load("merlin:FILE.pt")                       # or ct-fm, hlip-chest, spectre
        load("kermany-xception", download=True)      # of children's chest films
        load("astra-ct", download=True)              # a `Net3d`, an encoder of CTs
        load("smollm2", download=True)               # a `Writer`: general English
        load("minilm")                               # a `MiniLM`: frozen text alone

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
    except Exception as error:
        kind = type(error)
        # other errors are a library's own: a damaged file can break one anywhere
        ours = kind in (ValueError, FileNotFoundError) and "expected" in str(error)
        if not ours:
            raise _refused(name, error) from error
        # names come from users and files: they must not move a terminal
        raise kind(printable(error)) from error.__cause__


def _refused(name, error):
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ValueError(
        f"expected a model that can be built from {printable(name)}, got one that "
        f"can't ({printable(reason)}). Try the file as its library wrote it."
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
        options = {"download": download, "size": size}
        if like:
            options["like"] = like
        if heads:
            options["heads"] = heads
        return LIBRARIES[library](rest, text, **options)
    if text in PUBLISHED:
        return PUBLISHED[text](text, download=download)
    folder = SHIPPED / text
    if not (folder / "model.json").is_file():
        folder = Path(text)
    if (folder / CONFIG).is_file():
        return load_config_folder(folder, text, download=download)
    if not (folder / "model.json").is_file():
        raise FileNotFoundError(_no_folder(folder))
    return load_folder(folder, text, download=download)


def _no_folder(folder):
    if folder.is_dir() and (folder / "checkpoint.safetensors").is_file():
        return (
            f"expected a finished run in {folder}, got a stopped one. "
            "Call rw.pretrain.fit again to resume."
        )
    known = ", ".join(f"{library}:NAME" for library in LIBRARIES)
    return (
        f"expected a run, a folder written by rw.models.save, or {known}; got "
        f"{str(folder)!r}, without a model.json. A run is made by notebook "
        "02_pretraining or by `radwb pretrain`."
    )


def available(contains: str = "") -> list[str]:
    """The names that `load` knows here, to pick a published model by a part of it.

    >>> available("radwb")
    ['radwb-tiny', 'radwb-tiny-v2']

    Args:
        contains: a part of the name, in any case. Runs aren't listed: they are loaded
            by their folder.
    """
    names = [path.parent.name for path in sorted(SHIPPED.glob("*/model.json"))]
    names += [f"open_clip:{arch}" for arch in open_clip.list_models()]
    names += [f"timm:{arch}" for arch in [*timm.list_models(), *DINO]]
    names += PUBLISHED
    if find_spec("torchxrayvision"):
        import torchxrayvision

        names += [f"xrv:{arch}" for arch in torchxrayvision.models.model_urls]
    return [name for name in names if contains.lower() in name.lower()]
