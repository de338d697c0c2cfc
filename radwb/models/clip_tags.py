"""open_clip's architectures by name: with published weights, or a file's.

A tag of open_clip's says how its weights are fed and which activation they were trained
with; a file says neither, so the tag that it's like has to be told where tags differ.
"""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from radwb.models.clips import CONFIG, OPENAI_MARKS, clip_model, load_config_folder
from radwb.models.hub import (
    cached,
    check_name,
    consent,
    library_call,
    licence_of,
    megabytes,
    only_own_size,
    quiet,
)
from radwb.models.model import Model
from radwb.models.sources import fill_model, read_weights


class Feeding(NamedTuple):
    """How published weights are fed, in open_clip's words, and their activation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    quick_gelu: bool


def load_open_clip(
    rest: str, name: str, *, download: bool, size: int | None, like: str | None = None
) -> Model:
    """ARCH, ARCH/TAG, ARCH/FILE, local-dir:FOLDER or hf-hub:OWNER/NAME."""
    import open_clip

    only_own_size(size, name)
    if rest.startswith("local-dir:"):
        folder = rest.removeprefix("local-dir:")
        return load_config_folder(folder, name, download=download)
    if rest.startswith("hf-hub:"):
        folder = _from_hub(rest.removeprefix("hf-hub:"), name, download)
        return load_config_folder(folder, name, download=download)
    arch, _, weights = rest.partition("/")
    check_name(arch, open_clip.list_models(), "open_clip")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if weights and weights not in tags:
        if not Path(weights).is_file():
            first = ", ".join(tags[:6]) or "it has none"
            raise ValueError(
                f"expected a file or a tag of {arch} ({first} ...), got {weights!r}"
            )
        return _open_clip_file(arch, weights, name, like, download)
    online = download or bool(weights and _allow_tag(arch, weights, name))
    quick = bool(weights) and feeding_of(arch, weights).quick_gelu
    model = open_clip_model(arch, name, quick, tag=weights or None, download=online)
    model.licence = "MIT (OpenAI)" if weights == "openai" else licence_of(weights)
    return model


def open_clip_model(
    arch: str,
    name: str,
    quick_gelu: bool,
    *,
    tag: str | None = None,
    download: bool = False,
    feeding: dict | None = None,
) -> Model:
    """The network of one of open_clip's names, with random weights unless a tag's."""
    import open_clip

    check_name(arch, open_clip.list_models(), "open_clip")
    net = library_call(
        name,
        open_clip.create_model,
        arch,
        pretrained=tag,
        pretrained_text=False,
        force_quick_gelu=quick_gelu,
        download=download,
    )
    tokenizer = library_call(name, open_clip.get_tokenizer, arch, download=download)
    spec = {"builder": "open_clip", "arch": arch}
    if quick_gelu:
        spec["quick_gelu"] = True
    return clip_model(net, name, tokenizer, spec, feeding)


def _open_clip_file(arch, file, name, like, download):
    """Weights from a file, fed as published weights of that architecture are."""
    state = read_weights(file)
    feeding, note = feeding_of_file(arch, file, state, like)
    for key in OPENAI_MARKS:
        state.pop(key, None)
    options = {"feeding": feeding._asdict(), "download": download}
    with quiet():
        model = open_clip_model(arch, name, feeding.quick_gelu, **options)
    model.licence = licence_of(file)
    fill_model(model, state, file)
    model.notes += (note,)
    return model


def feeding_of(arch: str, tag: str) -> Feeding:
    """How a tag's weights are fed, as open_clip lists it.

    Args:
        tag: "" = what open_clip takes for an architecture without one.
    """
    import open_clip

    cfg = open_clip.get_pretrained_cfg(arch, tag)
    usual = open_clip.transform.PreprocessCfg()
    quick = cfg.get("quick_gelu") or open_clip.get_model_config(arch).get("quick_gelu")
    return Feeding(
        mean=tuple(cfg.get("mean") or usual.mean),
        std=tuple(cfg.get("std") or usual.std),
        interpolation=cfg.get("interpolation") or usual.interpolation,
        resize_mode=cfg.get("resize_mode") or usual.resize_mode,
        quick_gelu=bool(quick),
    )


def feeding_of_file(
    arch: str, file: str | Path, state: dict, like: str | None
) -> tuple[Feeding, str]:
    """How a file is fed, and what was taken for granted, in words.

    Raises:
        ValueError: published weights differ, and `like` doesn't say which it's like.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(arch)
    if like is not None:
        if like not in tags:
            known = ", ".join(tags[:8]) or "none"
            raise ValueError(
                f"expected like= to be a tag of {arch}, got {like!r}. Try {known}"
            )
        return feeding_of(arch, like), f"fed as {arch}/{like}, as asked"
    if "openai" in tags and any(key in state for key in OPENAI_MARKS):
        note = "known as OpenAI's by its names: QuickGELU and its preprocessing"
        return feeding_of(arch, "openai"), note
    usual = feeding_of(arch, "")
    if not tags:
        note = (
            f"open_clip publishes no weights of {arch}: its usual preprocessing is "
            "taken for granted"
        )
        return usual, note
    tags_by_feeding = defaultdict(list)
    for tag in tags:
        tags_by_feeding[feeding_of(arch, tag)].append(tag)
    first = next(iter(tags_by_feeding))
    if len(tags_by_feeding) > 1 or first.quick_gelu != usual.quick_gelu:
        raise ValueError(_question(arch, file, tags_by_feeding))
    return first, f"fed as all published weights of {arch} are"


def _question(arch, file, tags_by_feeding):
    """What a file doesn't say: each way that published weights are fed, with tags."""
    options = []
    for feeding, tags in tags_by_feeding.items():
        activation = "QuickGELU" if feeding.quick_gelu else "GELU"
        options.append(
            f"like={tags[0]!r} for {activation} and mean {feeding.mean[0]:.3g} "
            f"(as {', '.join(tags[:4])})"
        )
    if len(tags_by_feeding) == 1:
        options.append(
            f"open_clip's own configuration of {arch} has GELU: for weights trained "
            f"with it name a folder with {CONFIG}"
        )
    return (
        f"expected to be told how {Path(file).name} was trained, since a file doesn't "
        f"say and published weights of {arch} differ, got nothing. "
        f"Try {'; '.join(options)}"
    )


def _allow_tag(arch, tag, name):
    """Whether somebody allows the network for a tag; False where its file is here."""
    import open_clip

    cfg = open_clip.get_pretrained_cfg(arch, tag)
    repo, _, file = cfg.get("hf_hub", "").rpartition("/")
    if repo:
        source = f"huggingface.co/{repo}"
        stem = (file or "open_clip_pytorch_model.bin").rpartition(".")[0]
        files = (f"{stem}.safetensors", "open_clip_model.safetensors", f"{stem}.bin")
        here = cached(repo, file, *files)
    else:
        source = cfg.get("url")
        folder = Path("~/.cache/clip").expanduser()
        here = source and (folder / Path(source).name).is_file()
    if here:
        return False
    licence = "MIT" if tag == "openai" else f"see {source}"
    with quiet():
        mb = megabytes(open_clip.create_model, arch, device="meta")
    return consent(name, source=source, licence=licence, mb=mb)


def _from_hub(repo, name, download):
    """The folder of a hub repository in open_clip's format."""
    from huggingface_hub import snapshot_download

    source = f"huggingface.co/{repo}"
    if not download and not cached(repo, CONFIG):
        download = consent(name, source=source, licence=f"see {source}")
    files = [CONFIG, "open_clip_*model.*", "tokenizer*.json", "vocab.txt", "merges.txt"]
    return library_call(
        name, snapshot_download, repo, allow_patterns=files, download=download
    )
