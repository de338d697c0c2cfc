"""Maps on volumes as files that lie on their scan: NIfTI and DICOM.

DICOM comes in two kinds, a segmentation or a parametric map. highdicom is heavy and an
extra, so it is imported where a DICOM file is written.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from radwb.attend.map import Map
from radwb.data.header import lookup, parts, spacing_of
from radwb.data.place import stack
from radwb.data.scan import Volume
from radwb.data.series import series_headers
from radwb.data.volumes import nifti_bytes


def save_map(
    map: Map,
    volume: Volume,
    path: str | Path,
    *,
    series: str | Path | None = None,
    threshold: float | None = None,
) -> Path:
    """A map of your own volume as a file that a viewer lays on the scan.

    It is written in the patient's millimetres.

    >>> from tempfile import TemporaryDirectory
    >>> from radwb.attend.map import Map
    >>> m = Map(ct.voxels.clip(0), "relevance", affine=ct.affine)
    >>> with TemporaryDirectory() as folder:
    ...     print(save_map(m, ct, f"{folder}/map.nii.gz").name)
    map.nii.gz

    Args:
        map: of the volume, at each voxel or each step-th.
        volume: the scan that it was made from.
        path: .nii or .nii.gz; or .dcm, which needs highdicom (radwb's extra `dicom`).
        series: for .dcm the folder of the scan's own DICOM files, which the object
            refers to; None = where the volume was read from.
        threshold: for .dcm: None keeps every value as a 32-bit float (Parametric Map
            Storage), a number keeps where the map is at least that (Segmentation
            Storage).
    Returns:
        the path.
    Raises:
        ValueError: the place isn't known, the map or the series isn't the volume's,
            nothing reaches the threshold.
    """
    path = Path(path)
    _require_place(map, volume)
    if path.name.endswith((".nii", ".nii.gz")):
        if threshold is not None:
            raise ValueError(
                f"expected threshold=None for {path.name}, which keeps the values; "
                f"got {threshold}"
            )
        packed = path.suffix == ".gz"
        path.write_bytes(
            nifti_bytes(map.values, map.affine, describe(map), packed=packed)
        )
    elif path.suffix == ".dcm":
        sources = _sources(Path(series or volume.source), volume)
        if threshold is None:
            _parametric_map(map, sources).save_as(path)
        else:
            _segmentation(map, sources, threshold).save_as(path)
    else:
        raise ValueError(
            f"expected a path that ends in .nii, .nii.gz or .dcm, got {path.name}"
        )
    return path


def describe(map: Map) -> str:
    """Method, layer, target and model in a line.

    >>> from radwb.attend.map import Map
    >>> describe(Map(np.ones((2, 2)), "rollout", layer=3, model="tiny"))
    'rollout, layer 3, tiny'
    """
    words = [map.method]
    if map.layer is not None:
        words.append(f"layer {map.layer}")
    if map.target is not None:
        words.append(str(map.target))
    return ", ".join(word for word in [*words, map.model] if word)


def _parametric_map(map, sources):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    low, high = float(map.values.min()), float(map.values.max())
    meaning = hd.pm.RealWorldValueMapping(
        "map",
        "Saliency map",
        codes.UCUM.NoUnits,
        (low, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.Saliency,
    )
    window = hd.VOILUTTransformation(
        (low + high) / 2, max(high - low, 1e-6), voi_lut_function="LINEAR_EXACT"
    )
    saved = hd.pm.ParametricMap(
        sources,
        _placed(map, map.values, sources),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[meaning],
        voi_lut_transformations=[window],
        **_about(map),
    )
    saved.Laterality = ""  # which highdicom leaves out; empty = not known
    return saved


def _segmentation(map, sources, threshold):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    marked = map.values >= threshold
    if not marked.any():
        raise ValueError(
            f"expected a threshold that some voxel reaches, got {threshold} with a "
            f"maximum of {map.values.max():.3g}"
        )
    family = codes.cid7162.ArtificialIntelligence
    name = f"{map.model or 'model'}: {map.method}"[:64]
    algorithm = hd.AlgorithmIdentificationSequence(name, family, version("radwb"))
    segment = hd.seg.SegmentDescription(
        1,
        f"map >= {threshold:g}",
        codes.cid7150.SpatialAndRelationalConcept,
        codes.DCM.ImageRegion,
        "AUTOMATIC",
        algorithm,
        tracking_uid=hd.UID(),
        tracking_id="saliency",
    )
    voxels = _placed(map, marked.astype(np.uint8), sources)
    return hd.seg.Segmentation(sources, voxels, "BINARY", [segment], **_about(map))


def _about(map):
    """What both kinds of object say of their content and of who made them."""
    import highdicom as hd

    return {
        "content_label": "SALIENCY",
        "content_description": describe(map)[:64],
        "manufacturer": "radwb",
        "manufacturer_model_name": "radwb.attend",
        "software_versions": version("radwb"),
        "device_serial_number": "0",
        "series_instance_uid": hd.UID(),
        "series_number": 900,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
    }


def _placed(map, voxels, sources):
    import highdicom as hd

    frame = sources[0].FrameOfReferenceUID
    return hd.Volume(voxels, map.affine, "PATIENT", frame_of_reference_uid=frame)


def _sources(folder, volume):
    """Headers of the scan's own files in the order of their place.

    A series of another place is refused.
    """
    if not folder.is_dir():
        raise ValueError(
            "expected series= the folder of the scan's DICOM files, got "
            f"{str(folder)!r}"
        )
    headers = list(series_headers(folder).values())
    places = _numbers(headers, "ImagePositionPatient")
    facing = _numbers(headers, "ImageOrientationPatient")
    affine, order = stack(places, facing, spacing_of(headers[0]), folder.name)
    shape = (len(headers), headers[0].Rows, headers[0].Columns)
    corners = _corners(affine, shape)
    away = np.abs(corners - _corners(volume.affine, volume.shape)).max()
    if away > 0.5 * min(volume.spacing_mm):
        raise ValueError(
            f"expected the series that the volume was made from, got {folder.name}, "
            f"which lies elsewhere: {corners.round(1).tolist()} mm (LPS)"
        )
    return [headers[n] for n in order]


def _numbers(headers, keyword):
    return np.array([parts(lookup(header, keyword)) for header in headers], float)


def _corners(affine, shape):
    """(2, 3) lowest and highest LPS mm of a volume's voxel centres."""
    ends = np.meshgrid(*[(0, n - 1) for n in shape], [1])
    corners = np.stack(ends, -1).reshape(-1, 4) @ affine.T  # whichever way axes run
    return np.stack([corners.min(0)[:3], corners.max(0)[:3]])


def _require_place(map, volume):
    if volume.affine is None or map.affine is None:
        raise ValueError(
            "expected a map and a volume with an affine, got None: the file couldn't "
            "say where it lies"
        )
    # index of the map -> index of the volume
    steps = np.linalg.solve(volume.affine, map.affine)
    turned = np.abs(steps - np.diag(np.diag(steps))).max() > 1e-4
    last = (np.array(map.values.shape) - 1) * np.diag(steps)[:3]
    if turned or (last > np.array(volume.shape) - 1 + 1e-4).any():
        raise ValueError(
            f"expected a map of this volume {volume.shape}, got one of "
            f"{map.values.shape} that lies elsewhere"
        )
