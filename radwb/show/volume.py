"""A volume with a map over it, in the best viewer that can be reached here."""

import importlib.util
import json
from dataclasses import dataclass, field

import numpy as np

from radwb.data.scan import Volume
from radwb.data.volumes import robust_window
from radwb.show import volume_widgets
from radwb.show.badges import badge_lines
from radwb.show.mix import ALPHA, in_text, level_of
from radwb.show.viewers import choose
from radwb.show.volume_pictures import Shown, sliders, still

SOFT_TISSUE = (-160, 240)  # HU


@dataclass(eq=False)
class VolumeView:
    """What `volume` returns.

    A notebook shows the widget, a page without a kernel the figure, any other the
    still.

    Args:
        viewer: one of `VIEWERS`.
        why: in words, which viewer was chosen, and why not those before it.
        png: the three planes as a still picture.
        figure: three planes with sliders, which work on an exported page; None where
            there's no plotly.
        widget: None for "plotly" and "still".
        scan: the volume, what was sent of it, and every which voxel that is.
    """

    viewer: str
    why: str
    png: bytes = field(repr=False)
    scan: tuple = field(repr=False)
    figure: object = field(default=None, repr=False)
    widget: object = field(default=None, repr=False)

    def lay(self, map, *, alpha: float = ALPHA) -> None:
        """Put another map over the scan that is shown (ipyniivue only).

        The scan isn't sent again.
        """
        if self.viewer != "ipyniivue":
            raise ValueError(
                f"expected ipyniivue to lay another map, got {self.viewer}. "
                "Try rw.show.volume again."
            )
        niivue = self.widget.children[1]
        layer = volume_widgets.map_layer(level_on(map, *self.scan), alpha)
        niivue.volumes = [niivue.volumes[0], layer]

    def _repr_mimebundle_(self, **_):
        bundle = {"text/plain": self.why}
        if self.viewer == "itkwidgets":  # it has put itself into the notebook already
            return bundle
        bundle["image/png"] = in_text(self.png)
        if self.figure is not None:
            bundle["application/vnd.plotly.v1+json"] = json.loads(self.figure.to_json())
        if self.widget is not None:
            bundle |= self.widget._repr_mimebundle_()
        return bundle


def volume(
    volume: Volume,
    map: object = None,
    *,
    viewer: str = "auto",
    window_hu: tuple[float, float] | None = None,
    at: tuple[int, int, int] | None = None,
    title: str = "",
    alpha: float = ALPHA,
    side: int = 192,
    height: int = 460,
) -> VolumeView:
    """Your own CT or MR with a map over it: three linked planes and a rendering.

    >>> view = rw.show.volume(ct, window_hu=(-1000, 400), title="A chest CT")

    Args:
        volume: what to show; it needs an affine.
        map: a `Map` of the volume, or an array (D, H, W).
        viewer: "auto" = ipyniivue in a notebook, else plotly, else a still; or one of
            "itkwidgets", "ipyniivue", "plotly", "still" that must be reachable.
        window_hu: what is black and what is white; None = soft tissue where the
            modality says CT, else the 1st and 99th percentile.
        at: (d, h, w), the voxel where the planes cross first; None = the map's peak, or
            the middle.
        title: says the finding.
        alpha: opacity of the map's highest value; its lowest is clear.
        side: about the longest side that is sent to the browser; of a larger volume
            every second (third, ...) voxel is.
        height: of the widget, px; where WebGL is drawn by the CPU, a change takes time
            in proportion to its square.
    Raises:
        ValueError: the viewer can't be reached, the volume has no affine, or the map
            isn't the volume's.
    """
    name, why = choose(viewer)
    if volume.affine is None:
        raise ValueError(
            "expected a volume with an affine, got None: "
            "planes and distances aren't known"
        )
    window = window_hu
    if window_hu is None:
        is_ct = volume.modality == "CT"
        window = SOFT_TISSUE if is_ct else robust_window(volume.voxels)
    every = [max(1, round(n / side)) for n in volume.shape]
    small = thinned(volume, every)
    level = None if map is None else level_on(map, volume, small, every)
    if at is not None:
        place = np.floor_divide(at, every)
    elif map is None:
        place = np.floor_divide(small.shape, 2)
    else:
        place = np.unravel_index(int(level.voxels.argmax()), level.shape)
    lines = [title, _about_volume(volume, window, every)]
    if map is not None:
        lines.append(_about_map(map))
    badges = badge_lines([map])
    place = [int(index) for index in place]
    shown = Shown(small, level, every, window, place, alpha, lines, badges)
    view = VolumeView(name, why, still(shown, _verdict(map)), (volume, small, every))
    if name != "still" and importlib.util.find_spec("plotly"):
        view.figure = sliders(shown)
    if name == "ipyniivue":
        view.widget = volume_widgets.niivue(shown, height, why)
    elif name == "itkwidgets":
        view.widget = volume_widgets.itk(shown)
    return view


def thinned(volume, every):
    """Every n-th voxel along each axis, as int16 where that loses nothing."""
    picked = tuple(slice(None, None, step) for step in every)
    voxels = np.asarray(volume.voxels[picked])
    whole = np.abs(voxels).max() < 2**15 and np.array_equal(voxels, np.rint(voxels))
    kind = np.int16 if whole else np.float32
    return Volume(
        voxels.astype(kind),
        volume.affine @ np.diag([*every, 1.0]),
        volume.modality,
        volume.source,
        inverted=volume.inverted,
        padding=volume.padding,
    )


def level_on(map, volume, small, every):
    """The map from its lowest value (0) to its highest (1), on the voxels shown.

    Args:
        map: a `Map`, whose affine may leave out voxels of the volume, or (D, H, W).
        small: every `every`-th voxel of `volume`.
    """
    values = np.asarray(getattr(map, "values", map))
    affine = getattr(map, "affine", None)
    if affine is None:
        affine = volume.affine
    to_volume = np.linalg.solve(volume.affine, affine)  # from the map's index
    share = np.diag(to_volume)[:3]
    size = np.ceil(volume.shape / np.maximum(share, 1)).astype(int)
    turned = np.abs(to_volume - np.diag(np.diag(to_volume))).max() > 1e-3
    if turned or values.shape != tuple(size):
        raise ValueError(
            f"expected a map of this volume {volume.shape}, "
            f"got {values.shape} or one that lies elsewhere"
        )
    places = []
    for n, step, ratio, length in zip(
        small.shape, every, share, values.shape, strict=True
    ):
        index = np.rint(np.arange(n) * step / ratio).astype(int)
        places.append(index.clip(0, length - 1))
    picked = values[np.ix_(*places)]
    level = level_of(picked, float(values.min()), float(values.max()))
    return Volume(level.astype(np.float32), small.affine)


def _about_volume(volume, window, every):
    shown = "window {:.4g} to {:.4g}".format(*window)
    if volume.modality == "CT":
        shown += " HU"
    if volume.inverted:
        shown += ", low values bright (MONOCHROME1)"
    spacing = " x ".join(f"{step:.3g}" for step in volume.spacing_mm)
    voxels = f"voxels {spacing} mm"
    if max(every) > 1:
        voxels += f", shown at every {' x '.join(map(str, every))}"
    return f"{volume.modality or 'volume'}; {shown}; {voxels}"


def _about_map(map):
    values = getattr(map, "values", map)
    name = getattr(map, "method", "map")
    target = getattr(map, "target", None)
    if target is not None:
        name += f", target {target}"
    low = f"dark = lowest ({np.min(values):.3g})"
    return f"{name}: {low}, yellow = highest ({np.max(values):.3g})"


def _verdict(map):
    """The badge and the note of a map, as lines of a still."""
    lines = []
    if hasattr(map, "badge"):
        lines.append(str(map.badge or "sanity: not checked"))
    if getattr(map, "note", ""):
        lines.append(f"! {map.note}")
    return lines
