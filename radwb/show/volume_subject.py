"""What of a volume and its maps is shown, thinned to what a browser is sent."""

from dataclasses import dataclass, field

import numpy as np

from radwb.data.scan import Volume
from radwb.show.badges import badge_lines
from radwb.show.mix import level_of
from radwb.show.volume_pictures import Shown


@dataclass(eq=False)
class Subject:
    """What is shown, by reference: what it takes is computed when it's asked for.

    So the outputs that a notebook remembers hold no second copy of a volume.

    Args:
        maps: name -> `Map` or array; the first is on top at first.
        window: what is black and what is white.
        in_hu: whether that is in Hounsfield units, so that a CT's windows apply.
        at: (d, h, w), the voxel where the planes cross first; None = the first map's
            peak, or the middle.
        title: words of others.
        alpha: opacity of a map's highest value.
        every: every which voxel is sent, along each axis.
        height: px of the widget.
    """

    volume: Volume
    maps: dict = field(repr=False)
    window: tuple[float, float]
    in_hu: bool
    at: tuple[int, int, int] | None
    title: str
    alpha: float
    every: list[int]
    height: int

    @property
    def place(self):
        """The voxel of the volume where the planes cross first."""
        if self.at is not None:
            return [int(index) for index in self.at]
        if self.maps:
            return peak(self.first_map, self.volume)
        return [n // 2 for n in self.volume.shape]

    @property
    def first_map(self):
        return next(iter(self.maps.values()), None)

    def small(self):
        return thinned(self.volume, self.every)

    def shown(self):
        """For a still and a figure, which show the first map."""
        small = self.small()
        first = self.first_map
        lines = [self.title, about_volume(self.volume, self.window, self.every)]
        level = None
        if first is not None:
            level = level_on(first, self.volume, small, self.every)
            lines.append(about_map(first))
        badges = badge_lines([first])
        at = []
        for index, step, n in zip(self.place, self.every, small.shape, strict=True):
            at.append(min(index // step, n - 1))
        return Shown(
            small, level, self.every, self.window, at, self.alpha, lines, badges
        )


def thinned(volume, every):
    """Every n-th voxel along each axis, as int16 where that loses nothing."""
    picked = tuple(slice(None, None, step) for step in every)
    return Volume(
        compact(np.asarray(volume.voxels[picked])),
        volume.affine @ np.diag([*every, 1.0]),
        volume.modality,
        volume.source,
        inverted=volume.inverted,
        padding=volume.padding,
    )


def compact(voxels):
    """As int16 where that loses nothing, else as float32."""
    whole = np.abs(voxels).max() < 2**15 and np.array_equal(voxels, np.rint(voxels))
    return np.ascontiguousarray(voxels, np.int16 if whole else np.float32)


def _in_volume(map, volume):
    """(4, 4) that takes an index of the map to one of the volume."""
    affine = getattr(map, "affine", None)
    if affine is None:
        affine = volume.affine
    return np.linalg.solve(volume.affine, affine)


def peak(map, volume):
    """The voxel of the volume that lies where the map is highest."""
    values = np.asarray(getattr(map, "values", map))
    highest = np.unravel_index(int(values.argmax()), values.shape)
    place = np.rint((_in_volume(map, volume) @ [*highest, 1])[:3])
    return [int(index) for index in place.clip(0, np.array(volume.shape) - 1)]


def steps_of(map, volume):
    """Along each axis, how many voxels of the volume one of the map takes.

    Raises:
        ValueError: the map isn't the volume's.
    """
    values = np.asarray(getattr(map, "values", map))
    to_volume = _in_volume(map, volume)
    steps = np.diag(to_volume)[:3]
    size = np.ceil(volume.shape / np.maximum(steps, 1)).astype(int)
    turned = np.abs(to_volume - np.diag(np.diag(to_volume))).max() > 1e-3
    if turned or values.shape != tuple(size):
        raise ValueError(
            f"expected a map of this volume {volume.shape}, "
            f"got {values.shape} or one that lies elsewhere"
        )
    return steps


def level_on(map, volume, small, every):
    """The map from its lowest value (0) to its highest (1), on the voxels shown.

    Args:
        map: a `Map`, whose affine may leave out voxels of the volume, or (D, H, W).
        small: every `every`-th voxel of `volume`.
    """
    values = np.asarray(getattr(map, "values", map))
    share = steps_of(map, volume)
    places = []
    for n, step, ratio, length in zip(
        small.shape, every, share, values.shape, strict=True
    ):
        index = np.rint(np.arange(n) * step / ratio).astype(int)
        places.append(index.clip(0, length - 1))
    picked = values[np.ix_(*places)]
    level = level_of(picked, float(values.min()), float(values.max()))
    return Volume(level.astype(np.float32), small.affine)


def about_volume(volume, window, every):
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


def about_map(map):
    values = getattr(map, "values", map)
    name = getattr(map, "method", "map")
    target = getattr(map, "target", None)
    if target is not None:
        name += f", target {target}"
    low = f"dark = lowest ({np.min(values):.3g})"
    return f"{name}: {low}, yellow = highest ({np.max(values):.3g})"


def verdict(map):
    """The badge and the note of a map, as lines of text."""
    lines = []
    if hasattr(map, "badge"):
        lines.append(str(map.badge or "sanity: not checked"))
    if getattr(map, "note", ""):
        lines.append(f"! {map.note}")
    return lines
