"""The viewer of volumes that needs no WebGL: three planes on 2-D canvases (volume.js).

To add a control: give it a default in `_look` and say in volume.js what it changes.
"""

import gzip
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from radwb.show.keys import KEEP_KEYS
from radwb.show.mix import CONSTANTS, to_bytes
from radwb.show.theme import LEGAL
from radwb.show.volume_planes import plane_name, planes_of
from radwb.show.volume_subject import (
    about_map,
    about_volume,
    compact,
    level_on,
    peak,
    steps_of,
    verdict,
)
from radwb.show.windows import WINDOWS_HU

HERE = Path(__file__).parent
OPPOSITE = {"L": "R", "P": "A", "F": "H", "": ""}
HEAD = 2  # the world axis that grows to the head; films are read down to the feet
HOW = (
    "Wheel, arrows, Page Up and Down: slices. Ctrl or Alt and wheel, + and -: zoom. "
    "Shift and drag: pan. Right drag: window (0: as it was). b: map on and off."
)


class Canvas(anywidget.AnyWidget):
    """Its traits are what is shown; a saved notebook keeps them.

    The voxels are among them while the widget is on a page, which asks for them: a cell
    that is run again and again holds its volume once.
    """

    _esm = "".join(
        [KEEP_KEYS, *((HERE / f).read_text() for f in ("volume.js", "volume_pane.js"))]
    )
    _css = HERE / "volume.css"
    about = traitlets.Dict().tag(sync=True)
    scan = traitlets.Bytes().tag(sync=True)  # gzip of the thinned voxels
    layers = traitlets.List().tag(sync=True)  # a map each, `data` on the same voxels
    look = traitlets.Dict().tag(sync=True)
    mm = traitlets.List().tag(sync=True)  # where the planes cross, LPS
    resting = traitlets.Bool(False).tag(sync=True)
    view = traitlets.Dict({"zoom": 1, "centres": None, "line": None}).tag(sync=True)

    def __init__(self, subject, why):
        self.subject = subject
        place = subject.volume.affine @ [*subject.place, 1]
        small = subject.small()
        super().__init__(
            about=_about(subject, small, why),
            layers=[_about_layer(subject, name) for name in subject.maps],
            look=_look(subject),
            mm=place[:3].tolist(),
        )
        self.on_msg(self._answer)

    def _answer(self, _, message, buffers):
        if message.get("gone"):
            self.rest()
        elif message.get("need"):
            self.wake()
        else:
            self.send(*slice_message(self.subject.volume, *message["slice"]))

    def wake(self):
        """Give the page the voxels and the maps on them."""
        small = self.subject.small()
        with self.hold_sync():
            self.resting = False
            self.scan = _packed(small.voxels)
            self.layers = self._laid(small)

    def rest(self):
        """Let the voxels go until a page asks for them."""
        with self.hold_sync():
            self.scan = b""
            self.layers = [layer | {"data": b""} for layer in self.layers]
        self.resting = (
            True  # a message more: a model remembers what was before the last
        )

    def lay(self, maps, alpha):
        """Put other maps over the scan, which isn't sent again."""
        for map in maps.values():
            steps_of(map, self.subject.volume)  # raises where it isn't the volume's
        self.subject.maps = maps
        layer = max(0, min(self.look["layer"], len(maps) - 1))
        with self.hold_sync():
            self.layers = self._laid(self.subject.small())
            self.look = self.look | {"alpha": alpha, "layer": layer}

    def _laid(self, small):
        """Each map as what is said of it and its levels on the voxels of `small`."""
        layers = []
        for name, map in self.subject.maps.items():
            level = level_on(map, self.subject.volume, small, self.subject.every)
            data = _packed(to_bytes(level.voxels))
            layers.append(_about_layer(self.subject, name) | {"data": data})
        return layers


def _packed(values):
    return gzip.compress(values.tobytes(), 1, mtime=0)


def _look(subject):
    low, high = map(float, subject.window)
    return dict(
        low=low,
        high=high,
        invert=False,
        slab=0,  # mm, 0 = one slice
        map=True,
        layer=0,
        alpha=subject.alpha,
        threshold=0,  # share of the way from the lowest to the highest
        main=0,  # the plane that is shown large
    )


def _about(subject, small, why):
    volume = subject.volume
    low, high = map(float, subject.window)
    presets = WINDOWS_HU if subject.in_hu else {}
    lines = [subject.title, about_volume(volume, subject.window, [1, 1, 1])]
    return dict(
        shape=list(volume.shape),
        small=list(small.shape),
        every=subject.every,
        kind=small.voxels.dtype.name,
        affine=volume.affine[:3].tolist(),
        inverse=np.linalg.inv(volume.affine)[:3].tolist(),
        planes=[_plane(volume, axis) for axis in planes_of(volume)],
        presets=[[name, *window] for name, window in presets.items()],
        window=dict(low=low, high=high),
        span=float(np.ptp(small.voxels[np.isfinite(small.voxels)])) or 1.0,
        unit="HU" if subject.in_hu else "",
        padding=list(volume.padding) if volume.padding else None,
        inverted=volume.inverted,
        lines=[str(line) for line in lines],
        notes=f"{HOW} {why}. {LEGAL}.",
        height=subject.height,
        colours=CONSTANTS["colours"],
        gamma=CONSTANTS["gamma"],
    )


def _plane(volume, axis):
    """How a plane is hung: which axes run down and across it, and which turn round."""
    world = volume.world
    rows, columns = (a for a in range(3) if a != axis)
    if world[rows, 0] < world[columns, 0]:
        rows, columns = columns, rows
    # L and P grow along the picture, S shrinks from the head down: `Volume.slice`
    flips = [(world[a, 1] > 0) == (world[a, 0] == HEAD) for a in (rows, columns)]
    across, down = volume.slice(axis, 0, (0, 1)).orientation
    towards_feet = -1 if world[axis, 0] == HEAD else 1
    steps = volume.spacing_mm
    return dict(
        name=plane_name(volume, axis),
        axis=axis,
        rows=rows,
        columns=columns,
        flip_rows=bool(flips[0]),
        flip_columns=bool(flips[1]),
        letters=[OPPOSITE[across], across, OPPOSITE[down], down],
        mm=[steps[rows], steps[columns]],
        depth_mm=steps[axis],
        onwards=int(world[axis, 1]) * towards_feet,
    )


def _about_layer(subject, name):
    map = subject.maps[name]
    values = np.asarray(getattr(map, "values", map))
    return dict(
        name=str(name),
        low=float(values.min()),
        high=float(values.max()),
        peak=peak(map, subject.volume),
        words=[about_map(map), *verdict(map)],
        data=b"",
    )


def slice_message(volume, axis, first, last):
    """Every voxel of one plane as it is hung, of several slices the highest.

    Returns:
        what it is, and [its bytes].
    """
    plane = _plane(volume, axis)
    block = np.take(volume.voxels, range(first, last + 1), axis=axis)
    picture = block.max(axis)
    if plane["rows"] > plane["columns"]:
        picture = picture.T
    turned = [n for n in (0, 1) if plane[("flip_rows", "flip_columns")[n]]]
    picture = compact(np.flip(picture, turned))
    about = dict(
        key=f"[{axis},{first},{last}]",
        kind=picture.dtype.name,
        height=picture.shape[0],
        width=picture.shape[1],
    )
    return about, [picture.tobytes()]
