"""The viewers of volumes that are widgets; each is imported where it is used."""

import numpy as np

from radwb.data.volumes import nifti_bytes
from radwb.show.theme import FAINT, FONT, INK, plain

HOW = "Wheel: slices. Left drag: crosshair, or turn the rendering. Right drag: window."
HEAD = f"<b style='font-size:17px;color:{INK}'>%s</b><br>"
STYLE = f"font:14px/1.4 {FONT.replace(chr(39), '')};color:{FAINT};margin:4px 0"
ITK_LEVELS = 5  # of a map as a label image


def niivue(shown, height, why):
    """The widget of ipyniivue below a caption.

    All of it lives in the notebook, so it comes back after saving.
    """
    import ipywidgets
    from ipyniivue import DragMode, MultiplanarType, NiiVue, ShowRender

    from radwb.show.keys import guarded

    viewer = NiiVue(
        height=height,
        is_radiological_convention=True,
        sagittal_nose_left=True,
        tile_margin=2.0,
        crosshair_width=1.0,
        crosshair_gap=12.0,  # so that what it points at is seen
        multiplanar_show_render=ShowRender.ALWAYS,
        multiplanar_layout=MultiplanarType.GRID,
        crosshair_color=(0.34, 0.71, 0.91, 1.0),
        font_color=(1.0, 1.0, 1.0, 1.0),
        show_3d_crosshair=True,
        drag_mode=DragMode.WINDOWING,
        drag_and_drop_enabled=False,
        is_colorbar=shown.level is not None,
    )
    layers = [_scan_layer(shown.small, shown.window)]
    if shown.level is not None:
        layers.append(map_layer(shown.level, shown.alpha))
    viewer.load_volumes(layers)
    viewer.scene.crosshair_pos = ras_fraction(shown.small, shown.at)
    title, notes = shown.head()
    text = "<br>".join([*notes, f"{HOW} {plain(why)}."])
    if title:
        text = HEAD % title + text
    words = ipywidgets.HTML(f"<div style='{STYLE}'>{text}</div>")
    return guarded(words, viewer, webgl=True)


def _scan_layer(volume, window):
    from ipyniivue import Volume as Layer

    low, high = map(float, window)
    voxels = volume.voxels
    if volume.inverted:  # the viewer shows high values bright
        voxels = -voxels
        low, high = sorted((-low, -high))
    return Layer(
        name="scan.nii.gz",
        data=nifti_bytes(voxels, volume.affine),
        cal_min=low,
        cal_max=high,
        colorbar_visible=False,
    )


def map_layer(level, alpha):
    from ipyniivue import ColormapType
    from ipyniivue import Volume as Layer

    # 256 values pack to a tenth
    coarse = np.rint(level.voxels * 255).astype(np.float32) / 255
    return Layer(
        name="map.nii.gz",
        data=nifti_bytes(coarse, level.affine),
        colormap="inferno",
        opacity=alpha,
        cal_min=0.5,
        cal_max=1.0,
        colormap_type=ColormapType.ZERO_TO_MAX_TRANSLUCENT_BELOW_MIN,
    )


def ras_fraction(volume, at):
    """Where a voxel lies in the patient, each from 0 to 1.

    From left to right, back to front, feet to head.
    """
    place = [0.5] * 3
    for index, n, (world, sign) in zip(at, volume.shape, volume.world, strict=True):
        along = (index + 0.5) / n
        grows_in_ras = (sign > 0) == (world == 2)  # L and P grow in LPS
        place[world] = along if grows_in_ras else 1 - along
    return place


def itk(shown):
    """The viewer of itkwidgets, the map as five steps of a label image.

    Seen to be built, not to draw: it needs a network.
    """
    import itkwidgets
    from ngff_zarr import to_ngff_image

    layers = {"image": shown.small.voxels}
    if shown.level is not None:
        steps = np.rint(shown.level.voxels * ITK_LEVELS)
        layers["label_image"] = steps.astype(np.uint8)
    scale = dict(zip("zyx", shown.small.spacing_mm, strict=True))
    for name, values in layers.items():
        layers[name] = to_ngff_image(values, dims=list("zyx"), scale=scale)
    return itkwidgets.view(**layers)
