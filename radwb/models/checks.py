"""What a stranger's file may say: sizes within limits, numbers that are numbers.

And text that can't move a terminal.
"""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import tokenizers as hf
import torch
from torch import nn

from radwb import data
from radwb.data.checksum import sha256

# what config.json of a finished run says of its files
FINISHED = {"model_sha256": "model.safetensors", "tokenizer_sha256": "tokenizer.json"}
# of a file of weights, and of the network that a file asks for; EVA02-E has 20 GB
MAX_BYTES = 32 * 2**30
MAX_JSON = 64 * 2**20  # bytes; a tokenizer of 250,000 words has 17 MB
MAX_SIDE = 8192  # px of a model's square input
MAX_REPEATS = 1000  # of layers, and of whatever else a configuration counts in a loop
MAX_NUMBER = 10**7
LOOPS = (
    "layers",
    "depth",
    "depths",
    "text_layers",
    "blocks",
    "num_layers",
    "num_hidden_layers",
    "n_queries",
)


# categories of Unicode: control, format, broken, private, ends of lines and paragraphs
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def printable(text: object) -> str:
    r"""Text that can't move a terminal: hidden and broken characters as escapes.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(map(_visible, str(text)))


def _visible(character):
    if unicodedata.category(character) not in HIDDEN:
        return character
    return character.encode("unicode_escape").decode()


def read_json(path: str | Path) -> dict:
    """A JSON object from a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: too large, not UTF-8, not JSON, or no object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"expected {path.name} in {path.parent}, which is not there"
        )
    size = path.stat().st_size
    if size > MAX_JSON:
        raise ValueError(
            f"expected at most {MAX_JSON:,} bytes in {path.name}, got {size:,}"
        )
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:100]}"
        raise ValueError(f"expected JSON in {path.name}, got {reason}") from None
    return mapping(value, path.name)


def damaged(path: Path, why: str) -> ValueError:
    """The error of a run's file that isn't what `rw.pretrain.fit` wrote."""
    return ValueError(
        f"expected {path} as fit wrote it, got a damaged one ({why}). "
        "Try resume=False, which trains anew and keeps what is there as OUT.previous-N."
    )


def require_whole(folder: Path, config: dict) -> None:
    """Refuse a finished run whose files aren't those that it was finished with.

    Args:
        config: of the run; without a sha256 nothing is asked.
    Raises:
        ValueError: a file is missing, or its sha256 isn't that in config.json.
    """
    for key, name in FINISHED.items():
        checksum = config.get(key)
        if checksum is None:
            continue
        path = folder / name
        if not path.is_file():
            raise damaged(path, "missing")
        if sha256(path) != checksum:
            raise damaged(path, "its sha256 is not that in config.json")


def mapping(value: object, what: str) -> dict:
    """`value`, if it is a dict with names for keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(
            f"expected names with values in {what}, got {type(value).__name__}: "
            f"{str(value)[:60]!r}"
        )
    return value


def part(value: dict, key: str, what: str) -> object:
    """`value[key]`, or a ValueError that says where it's missing."""
    if key not in mapping(value, what):
        got = ", ".join(map(repr, list(value)[:8]))
        raise ValueError(f"expected {key!r} in {what}, got {got or 'nothing'}")
    return value[key]


def whole(value: object, what: str, *, low: int = 1, high: int = MAX_NUMBER) -> int:
    """`value`, if it is a whole number between `low` and `high`."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ValueError(
            f"expected a whole number from {low} to {high:,} for {what}, got "
            f"{str(value)[:60]}"
        )
    return value


def scale(
    values: object, channels: int, what: str, *, positive: bool
) -> tuple[float, ...]:
    """A mean or a standard deviation: one finite number a channel."""
    one_each = isinstance(values, list | tuple) and len(values) == channels
    if (
        not one_each
        or not all(_is_finite(value) for value in values)
        or (positive and min(values) <= 1e-6)
    ):
        kind = "finite numbers above 0" if positive else "finite numbers"
        raise ValueError(
            f"expected {channels} {kind} as {what}, one a channel, got "
            f"{str(values)[:60]}"
        )
    return tuple(float(value) for value in values)


def _is_finite(value):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= MAX_NUMBER  # NaN fails, too


def check_preprocessing(
    size: object, channels: object, mean: object, std: object, fit: object
) -> None:
    """ValueError where a model can't be fed with these."""
    whole(size, "size", high=MAX_SIDE)
    whole(channels, "channels", high=1024)
    scale(mean, channels, "mean", positive=False)
    scale(std, channels, "std", positive=True)
    if not isinstance(fit, str):
        raise ValueError(f"expected a word as fit, got {type(fit).__name__}")
    data.fit.Fit(fit)


def check_config(config: object, what: str, key: str = "") -> None:
    """ValueError where a configuration asks for numbers that no network has.

    Called before anything is built.

    Args:
        key: under which `config` stands in a larger one.
    """
    if isinstance(config, dict):
        for name, value in config.items():
            check_config(value, what, str(name))
    elif isinstance(config, list | tuple):
        for value in config:
            check_config(value, what, key)
    elif isinstance(config, int | float) and not isinstance(config, bool):
        most = MAX_REPEATS if key in LOOPS else MAX_NUMBER
        if not abs(config) <= most:  # NaN fails, too
            raise ValueError(
                f"expected {key or 'a number'} of at most {most:,} in {what}, got "
                f"{str(config)[:40]}"
            )


def check_bytes(shapes: dict[str, torch.Tensor], what: object) -> None:
    """ValueError where tensors would take more than MAX_BYTES."""
    total = sum(tensor.nbytes for tensor in shapes.values())
    if total > MAX_BYTES:
        raise ValueError(
            f"expected at most {MAX_BYTES / 2**30:.0f} GiB of weights in {what}, got "
            f"{total / 2**30:,.0f} GiB. "
            "Where that's right, raise radwb.models.checks.MAX_BYTES."
        )


def outline(make: Callable[[], nn.Module], what: object) -> nn.Module:
    """The network that `make` builds, without its memory.

    What a file asks for is checked before it's allocated.
    """
    with torch.device("meta"):
        net = make()
    tensors = dict(net.named_parameters()) | dict(net.named_buffers())
    check_bytes(tensors, what)
    return net


def read_tokenizer(path: str | Path) -> hf.Tokenizer:
    """A tokenizer.json, without its padding and truncation.

    Raises:
        ValueError: it is none, or numbers its words with gaps.
    """
    path = Path(path)
    read_json(path)
    try:
        pieces = hf.Tokenizer.from_file(str(path))
        pieces.no_padding()
        pieces.no_truncation()
        ids = sorted(pieces.get_vocab().values())
        pieces.encode("a heart of 12 cm")  # some damage shows only now
    except KeyboardInterrupt:
        raise
    # the library throws bare Exceptions, and its panics are none
    except BaseException as error:
        raise ValueError(
            f"expected a tokenizer in {path.name}, got one that can't be read "
            f"({printable(error)[:120]})"
        ) from None
    if ids != list(range(len(ids))):
        raise ValueError(
            f"expected the ids 0 to {len(ids) - 1} in {path.name}, each once, got "
            "others"
        )
    return pieces
