"""What a DICOM file asks to be shown: a window or a table of values, at the top or in the functional groups."""

import warnings
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_voi
from pydicom.uid import ExplicitVRBigEndian as BIG
from pydicom.uid import ExplicitVRLittleEndian

from radwb.data.header import finite, lookup, tag
from radwb.data.scan import to_display

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Window:
    """One of the three VOI functions of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, scaled to [0, 1].

    >>> Window(40, 400)(np.array([-160.5, 240]))
    array([0., 1.], dtype=float32)
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, dtype=np.float32)
        if self.function == "SIGMOID":
            steps = np.clip(
                4 * (values - self.center) / self.width, -80, 80
            )  # exp stays finite
            return np.nan_to_num(1 / (1 + np.exp(-steps)))
        if self.function == "LINEAR_EXACT":
            return to_display(
                values, self.center - self.width / 2, self.center + self.width / 2
            )
        middle, half = self.center - 0.5, (self.width - 1) / 2
        return to_display(values, middle - half, middle + half)


@dataclass(frozen=True)
class Table:
    """A VOI LUT (0028,3010), applied by pydicom and scaled to [0, 1] by the bits that its descriptor names."""

    descriptor: tuple[int, int, int]
    data: tuple | bytes
    vr: str
    signed: int
    big_endian: bool = False

    def __call__(self, values: np.ndarray) -> np.ndarray:
        item = Dataset()
        item.LUTDescriptor = list(self.descriptor)
        item.add_new(
            "LUTData", self.vr, list(self.data) if self.vr == "US" else self.data
        )
        ds = Dataset()
        ds.VOILUTSequence, ds.PixelRepresentation = [item], self.signed
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = (
            BIG if self.big_endian else ExplicitVRLittleEndian
        )
        whole = np.rint(np.nan_to_num(values)).astype(np.int64)
        return apply_voi(whole, ds).astype(np.float32) / (2 ** self.descriptor[2] - 1)


def voi_of(ds: Dataset, frame: int = 0) -> Window | Table | None:
    """The first VOI of a frame, a table before a window as in pydicom's `apply_voi_lut`; None where there is none."""
    tables = lookup(ds, "VOILUTSequence", frame)
    if tables:
        table = tables[0]
        data = table["LUTData"].value
        data = data if isinstance(data, bytes) else tuple(np.atleast_1d(data).tolist())
        vr = "OW" if isinstance(data, bytes) else "US"
        big_endian = ds.file_meta.TransferSyntaxUID == BIG
        descriptor = tuple(map(int, table.LUTDescriptor))
        if len(descriptor) != 3 or not 1 <= descriptor[2] <= 16:
            _warn(
                f"{tag('LUTDescriptor')} is {descriptor}, not a VOI table's: left out"
            )
            return None
        return Table(
            descriptor, data, vr, int(ds.get("PixelRepresentation") or 0), big_endian
        )
    if all(lookup(ds, k, frame) is None for k in ("WindowCenter", "WindowWidth")):
        return None
    center, width = finite(ds, "WindowCenter", frame), finite(ds, "WindowWidth", frame)
    if center is None or width is None or width <= 0:
        got = [str(lookup(ds, k, frame)) for k in ("WindowCenter", "WindowWidth")]
        _warn(
            f"{tag('WindowCenter')} {got[0]} and {tag('WindowWidth')} {got[1]} are no window: left out"
        )
        return None
    return Window(center, width, _function(ds, frame, width))


def _function(ds, frame, width):
    name = str(lookup(ds, "VOILUTFunction", frame) or "LINEAR").strip().upper()
    if name not in FUNCTIONS:
        _warn(
            f"{tag('VOILUTFunction')} {name} is not one of {', '.join(FUNCTIONS)}: shown as LINEAR"
        )
        name = "LINEAR"
    if name == "LINEAR" and width < 1:
        _warn(
            f"{tag('WindowWidth')} {width:g} is below 1, which LINEAR doesn't have: shown as LINEAR_EXACT"
        )
        name = "LINEAR_EXACT"
    return name


def _warn(text):
    warnings.warn(text, stacklevel=4)
