"""Maps on volumes as files that lie on their scan: NIfTI, DICOM segmentation and DICOM
parametric map.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from radwb.attend.map import Map
from radwb.data.header import lookup, parts, spacing_of
from radwb.data.scan import Volume
from radwb.data.place import stack
from radwb.data.series import series_headers
from radwb.data.volumes import nifti_bytes


def save_map(
    map: Map, volume: Volume, path, *, series=None, threshold: float | None = None
) -> Path:
    """Write a map of a volume in the patient's millimetres, so that a viewer lays it on
    the scan.

    >>> save_map(m, ct, "map.nii.gz")
    >>> save_map(m, ct, "map.dcm", series=rw.data.fetch("lidc-dicom"))                   # a parametric map
    >>> save_map(m, ct, "marked.dcm", series=rw.data.fetch("lidc-dicom"), threshold=0.5)      # a segmentation

    Args:
        map: of the volume, at each voxel or each step-th.
        path: .nii or .nii.gz; or .dcm, which needs highdicom (radwb's extra `dicom`).
        series: for .dcm the folder of the scan's own DICOM files, which the object
            refers to; None = where the volume was read from.
        threshold: for .dcm: None keeps every value as a 32-bit float (Parametric Map
            Storage), a number keeps where the map is at least that (Segmentation
            Storage).
    Raises:
        ValueError: the place isn't known, the map or the series isn't the volume's,
            nothing reaches the threshold.
    """
    path = Path(path)
    _require_place(map, volume)
    if path.name.endswith((".nii", ".nii.gz")):
        if threshold is not None:
            raise ValueError(
                f"expected threshold=None for {path.name}, which keeps the values; got {threshold}"
            )
        path.write_bytes(
            nifti_bytes(
                map.values, map.affine, describe(map), packed=path.suffix == ".gz"
            )
        )
    elif path.suffix == ".dcm":
        sources = _sources(Path(series or volume.source), volume)
        (
            _parametric_map(map, sources)
            if threshold is None
            else _segmentation(map, sources, threshold)
        ).save_as(path)
    else:
        raise ValueError(
            f"expected a path that ends in .nii, .nii.gz or .dcm, got {path.name}"
        )
    return path


def describe(map: Map) -> str:
    parts = (
        map.method,
        map.layer is not None and f"layer {map.layer}",
        map.target is not None and f"{map.target}",
    )
    return ", ".join(part for part in (*parts, map.model) if part)


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
        content_label="SALIENCY",
        content_description=describe(map)[:64],
        **_issuer(),
    )
    saved.Laterality = ""  # which highdicom leaves out; empty = not known
    return saved


def _segmentation(map, sources, threshold):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    marked = map.values >= threshold
    if not marked.any():
        raise ValueError(
            f"expected a threshold that some voxel reaches, got {threshold} with a maximum of "
            f"{map.values.max():.3g}"
        )
    family = codes.cid7162.ArtificialIntelligence
    algorithm = hd.AlgorithmIdentificationSequence(
        f"{map.model or 'model'}: {map.method}"[:64], family, version("radwb")
    )
    what = hd.seg.SegmentDescription(
        1,
        f"map >= {threshold:g}",
        codes.cid7150.SpatialAndRelationalConcept,
        codes.DCM.ImageRegion,
        "AUTOMATIC",
        algorithm,
        tracking_uid=hd.UID(),
        tracking_id="saliency",
    )
    return hd.seg.Segmentation(
        sources,
        _placed(map, marked.astype(np.uint8), sources),
        "BINARY",
        [what],
        content_label="SALIENCY",
        content_description=describe(map)[:64],
        **_issuer(),
    )


def _issuer():
    import highdicom as hd

    about = dict(
        manufacturer="radwb",
        manufacturer_model_name="radwb.attend",
        software_versions=version("radwb"),
    )
    numbers = dict(
        series_instance_uid=hd.UID(),
        series_number=900,
        sop_instance_uid=hd.UID(),
        instance_number=1,
    )
    return about | numbers | dict(device_serial_number="0")


def _placed(map, values, sources):
    import highdicom as hd

    return hd.Volume(
        values,
        map.affine,
        "PATIENT",
        frame_of_reference_uid=sources[0].FrameOfReferenceUID,
    )


def _sources(folder, volume):
    """Headers of the scan's own files in the order of their place; a series of another
    place is refused.
    """
    if not folder.is_dir():
        raise ValueError(
            f"expected series= the folder of the scan's DICOM files, got {str(folder)!r}"
        )
    headers = list(series_headers(folder).values())
    places, facing = (
        np.array([parts(lookup(ds, keyword)) for ds in headers], float)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient")
    )
    affine, order = stack(places, facing, spacing_of(headers[0]), folder.name)
    theirs = _corners(affine, (len(headers), headers[0].Rows, headers[0].Columns))
    if np.abs(theirs - _corners(volume.affine, volume.shape)).max() > 0.5 * min(
        volume.spacing_mm
    ):
        raise ValueError(
            f"expected the series that the volume was made from, got {folder.name}, which lies elsewhere: "
            f"{theirs.round(1).tolist()} mm (LPS)"
        )
    return [headers[n] for n in order]


def _corners(affine, shape):
    """(2, 3) lowest and highest LPS mm of a volume's voxel centres, whichever way its
    axes run.
    """
    ends = (
        np.stack(np.meshgrid(*[(0, n - 1) for n in shape], [1]), -1).reshape(-1, 4)
        @ affine.T
    )
    return np.stack([ends.min(0)[:3], ends.max(0)[:3]])


def _require_place(map, volume):
    if volume.affine is None or map.affine is None:
        raise ValueError(
            "expected a map and a volume with an affine, got None: the file couldn't say where it lies"
        )
    steps = np.linalg.solve(
        volume.affine, map.affine
    )  # index of the map -> index of the volume
    last = (np.array(map.values.shape) - 1) * np.diag(steps)[:3]
    if (
        np.abs(steps - np.diag(np.diag(steps))).max() > 1e-4
        or (last > np.array(volume.shape) - 1 + 1e-4).any()
    ):
        raise ValueError(
            f"expected a map of this volume {volume.shape}, got one of {map.values.shape} that lies elsewhere"
        )
