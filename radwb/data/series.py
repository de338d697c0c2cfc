"""Slices to a `Volume`: their order and their affine come from the patient's coordinates, never from file names."""

from pathlib import Path

import numpy as np
import pydicom
from tqdm.auto import tqdm

from radwb.data.dicom import check_image, load, lookup, spacing_of, stored_pixels, tag, to_values
from radwb.data.limits import check_bytes
from radwb.data.scan import ReadError, Volume


def frame_geometry(ds: pydicom.Dataset, frames: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Affine and order of the frames of an enhanced object; None and the stored order when it doesn't say."""
    plain = np.arange(frames)
    places = [lookup(ds, "ImagePositionPatient", n) for n in range(frames)]
    facing = [lookup(ds, "ImageOrientationPatient", n) for n in range(frames)]
    spacing = spacing_of(ds)
    if spacing is None or any(p is None for p in [*places, *facing]) or "PerFrameFunctionalGroupsSequence" not in ds:
        return None, plain
    try:
        return stack(np.array(places, float), np.array(facing, float), spacing, "frames")
    except ReadError:
        return None, plain  # a time series or several orientations: a stack of frames, not of places


def stack(places: np.ndarray, facing: np.ndarray, spacing: tuple, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Order slices along their normal and give the affine of the stack.

    Args:
        places: (D, 3) ImagePositionPatient; facing: (D, 6) ImageOrientationPatient.
        spacing: (row, column) mm.
    Returns:
        affine (4, 4) to LPS mm, and the order (D,) from low to high along the normal.
    Raises:
        ReadError: orientations differ, slices share a place, or the gaps differ.
    """
    across, down = facing[0, :3], facing[0, 3:]
    if np.abs(facing - facing[0]).max() > 1e-3:
        raise ReadError(f"{name}: {tag('ImageOrientationPatient')} differs between the slices: not one stack")
    along = places @ np.cross(across, down)
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    if len(gaps) and gaps.min() < 1e-3:
        place = along[order][gaps.argmin()]
        raise ReadError(f"{name}: two slices share the place {place:.2f} mm ({(gaps < 1e-3).sum()} pairs do)")
    if len(gaps) and gaps.max() > 1.02 * np.median(gaps) + 0.02:
        at = int(gaps.argmax())
        raise ReadError(f"{name}: expected equal gaps of {np.median(gaps):.3g} mm, got {gaps.max():.3g} mm after slice "
                        f"{at + 1} of {len(along)}: is a slice missing?")  # fmt: skip
    affine = np.eye(4)
    step = (places[order[-1]] - places[order[0]]) / max(1, len(order) - 1) if len(gaps) else np.cross(across, down)
    affine[:3] = np.stack([step, down * spacing[0], across * spacing[1], places[order[0]]], axis=1)
    return affine, order


def read_series(folder: Path) -> Volume:
    """A folder with one DICOM series -> Volume in the order of position, whatever the files' names or numbers."""
    headers = series_headers(folder)
    head = next(iter(headers.values()))
    places, facing = (np.array([ds[k].value for ds in headers.values()], float)
                      for k in ("ImagePositionPatient", "ImageOrientationPatient"))  # fmt: skip
    affine, order = stack(places, facing, spacing_of(head), folder.name)
    paths, shape = list(headers), (len(headers), int(head.Rows), int(head.Columns))
    check_bytes(folder.name, 4.0 * np.prod(shape, dtype=float), " x ".join(map(str, shape)) + " voxels")
    voxels = np.empty(shape, np.float32)
    for d, n in enumerate(tqdm(order, f"reading {folder.name}", delay=2, leave=False)):
        ds = load(paths[n])
        check_image(ds, paths[n].name)
        voxels[d] = to_values(stored_pixels(ds, paths[n]), ds, paths[n].name)
    return Volume(voxels, affine, head.get("Modality"), str(folder))


def series_headers(folder: Path) -> dict[Path, pydicom.Dataset]:
    """Header of each DICOM file, after checking that they are one series and that each slice has its place."""
    from radwb.data.read import sniff

    headers = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        try:
            if sniff(path) != "dicom":
                continue
        except ReadError:
            continue  # a text or XML file beside the series
        headers[path] = load(path, pixels=False)
    if not headers:
        raise ReadError(f"{folder.name}: expected a folder with one DICOM series, got no DICOM file in it")
    for path, ds in headers.items():
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            if not ds.get(keyword):
                raise ReadError(f"{path.name}: {tag(keyword)} is missing, so that the slice has no place in a volume")
        if spacing_of(ds) is None:
            raise ReadError(f"{path.name}: {tag('PixelSpacing')} is {list(ds.PixelSpacing)}, not two positive lengths")
    for keyword in ("SeriesInstanceUID", "Rows", "Columns", "PixelSpacing"):
        values = [str(ds.get(keyword)) for ds in headers.values()]
        if len(set(values)) > 1:
            counts = {v: values.count(v) for v in sorted(set(values))[:4]}
            raise ReadError(f"{folder.name}: expected one {tag(keyword)}, got {counts}. Try one folder a series.")
    return headers
