"""What a DICOM file asks to be shown: a window or a table of values."""

import warnings
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from radwb.data.header import finite, lookup, parts, tag
from radwb.data.scan import to_display

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
WINDOW = ("WindowCenter", "WindowWidth")
HUGE = 1e30  # beyond it float32 overflows


@dataclass(frozen=True)
class Window:
    """One of the three VOI functions of DICOM, scaled to [0, 1].

    PS3.3 C.11.2.1.2 and C.11.2.1.3 define them.

    >>> Window(40, 400)(np.array([-160.5, 240]))
    array([0., 1.], dtype=float32)
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, dtype=np.float32)
        if self.function == "SIGMOID":
            steps = 4 * (values - self.center) / self.width
            exponent = np.clip(steps, -80, 80)  # exp stays finite
            return np.nan_to_num(1 / (1 + np.exp(-exponent)))
        middle, width = self.center, self.width
        if self.function == "LINEAR":
            middle -= 0.5
            width -= 1
        return to_display(values, middle - width / 2, middle + width / 2)


@dataclass(frozen=True)
class Table:
    """A VOI LUT (0028,3010), scaled to [0, 1] by the bits that its descriptor names.

    >>> Table(10, 8, (0, 255))(np.array([5, 10, 11, 40]))
    array([0., 0., 1., 1.], dtype=float32)

    Args:
        first: the value that the first entry stands for; what is below has that entry,
            what is beyond the last.
        bits: of an entry.
        entries: (n,) integers.
    """

    first: int
    bits: int
    entries: tuple[int, ...]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        place = np.rint(np.nan_to_num(values)) - self.first
        place = place.clip(0, len(self.entries) - 1).astype(np.int64)
        shown = np.array(self.entries, np.float32) / (2**self.bits - 1)
        return shown[place].clip(0, 1)


def _table_of(item, ds):
    """The table of one item of (0028,3010) VOILUTSequence.

    Raises:
        ValueError: it lacks its descriptor or its data, or they don't fit each other.
    """
    descriptor = parts(item.get("LUTDescriptor"))
    data = item.get("LUTData")
    if len(descriptor) != 3 or data is None:
        raise ValueError(f"{tag('LUTDescriptor')} or {tag('LUTData')} is missing")
    count, first, bits = map(int, descriptor)
    count = count % (1 << 16) or 1 << 16  # also where it came as a signed word
    if int(ds.get("PixelRepresentation") or 0) and first >= 1 << 15:
        first -= 1 << 16
    if not 1 <= bits <= 16:
        raise ValueError(f"its entries have {bits} bits")
    if isinstance(data, bytes):
        in_bytes = bits <= 8 and len(data) < 2 * count
        order = ">" if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
        whole = data[: len(data) // 2 * 2]
        data = np.frombuffer(whole, "u1" if in_bytes else f"{order}u2")
    entries = np.atleast_1d(data).astype(np.int64)
    if bits <= 8 and len(entries) == -(-count // 2) < count:  # two entries in a word
        entries = np.stack([entries & 255, entries >> 8], 1).ravel()
    if len(entries) < count:
        raise ValueError(f"it has {len(entries)} entries where {count} are announced")
    return Table(first, bits, tuple(entries[:count].tolist()))


def voi_of(ds: Dataset, frame: int = 0) -> Window | Table | None:
    """The first VOI of a frame, or None; a table that can be used before a window."""
    tables = lookup(ds, "VOILUTSequence", frame)
    if tables:
        try:
            return _table_of(tables[0], ds)
        except (ValueError, TypeError) as error:
            _warn(f"{tag('VOILUTSequence')} is no table ({error}): left out")
    stated = [lookup(ds, keyword, frame) for keyword in WINDOW]
    if stated == [None, None]:
        return None
    center, width = (finite(ds, keyword, frame) for keyword in WINDOW)
    usable = None not in (center, width) and 0 < width < HUGE and abs(center) <= HUGE
    if not usable:
        _warn(
            f"{tag('WindowCenter')} {stated[0]} and {tag('WindowWidth')} {stated[1]} "
            "are no window: left out"
        )
        return None
    return Window(center, width, _function(ds, frame, width))


def _function(ds, frame, width):
    name = str(lookup(ds, "VOILUTFunction", frame) or "LINEAR").strip().upper()
    if name not in FUNCTIONS:
        _warn(
            f"{tag('VOILUTFunction')} {name} is not one of {', '.join(FUNCTIONS)}: "
            "shown as LINEAR"
        )
        name = "LINEAR"
    if name == "LINEAR" and width < 1:
        _warn(
            f"{tag('WindowWidth')} {width:g} is below 1, which LINEAR doesn't have: "
            "shown as LINEAR_EXACT"
        )
        name = "LINEAR_EXACT"
    return name


def _warn(text):
    warnings.warn(text, stacklevel=4)
