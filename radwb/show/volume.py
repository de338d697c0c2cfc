"""A volume with a map over it, in the best viewer that can be reached here."""

import importlib.util
import json
from dataclasses import dataclass, field

import numpy as np
from IPython.display import display

from radwb.data.scan import Volume
from radwb.data.volumes import robust_window
from radwb.show import volume_widgets
from radwb.show.mix import ALPHA, in_text
from radwb.show.stand_in import StandIn
from radwb.show.stills import stacked
from radwb.show.viewers import choose
from radwb.show.volume_pictures import sliders, still
from radwb.show.volume_subject import Subject, level_on, steps_of, verdict
from radwb.show.windows import SOFT_TISSUE_HU

PLOTLY = "application/vnd.plotly.v1+json"


@dataclass(eq=False)
class VolumeView:
    """What `volume` returns.

    A notebook shows the widget, a page without a kernel the figure, any other the
    still.

    Args:
        viewer: one of `VIEWERS`.
        why: in words, which viewer was chosen, and why not those before it.
        subjects: what is shown, from the top; one, or two that are linked.
        widget: None for "plotly" and "still".
    """

    viewer: str
    why: str
    subjects: list[Subject] = field(repr=False)
    widget: object = field(default=None, repr=False)

    @property
    def png(self) -> bytes:
        """The three planes as a still picture."""
        stills = []
        for subject in self.subjects:
            stills.append(still(subject.shown(), verdict(subject.first_map)))
        return stacked(stills)

    @property
    def figure(self) -> object:
        """Three planes with sliders, which work on an exported page.

        None where there's no plotly, and of two volumes.
        """
        plotly = importlib.util.find_spec("plotly")
        if self.viewer == "still" or len(self.subjects) > 1 or not plotly:
            return None
        return sliders(self.subjects[0].shown())

    def lay(self, map: object, *, alpha: float = ALPHA) -> None:
        """Put another map over the scan that is shown, which isn't sent again.

        Args:
            map: as for `volume`.
        """
        if self.viewer == "canvas":
            self.widget.lay(by_name(map), alpha)
            return
        if self.viewer != "ipyniivue":
            raise ValueError(
                "expected canvas or ipyniivue to lay another map, "
                f"got {self.viewer}. Try rw.show.volume again."
            )
        niivue = self.widget.children[1]
        (subject,) = self.subjects
        level = level_on(map, subject.volume, subject.small(), subject.every)
        niivue.volumes = [niivue.volumes[0], volume_widgets.map_layer(level, alpha)]

    def link(self, other: "VolumeView") -> "VolumeView":
        """Both, one below the other, with one cursor: the same place in the patient.

        Two maps of one volume are also zoomed together.

        In a notebook::

            first = rw.show.volume(ct, maps)
            first.link(rw.show.volume(ct, other_maps))
        """
        import ipywidgets

        if (self.viewer, other.viewer) != ("canvas", "canvas"):
            raise ValueError(
                f"expected two views with canvas, got {self.viewer} and {other.viewer}."
                " Try viewer='canvas' in a notebook."
            )
        affines = [one.subjects[0].volume.affine for one in (self, other)]
        ipywidgets.jslink((self.widget, "mm"), (other.widget, "mm"))
        if np.array_equal(*affines):
            ipywidgets.jslink((self.widget, "view"), (other.widget, "view"))
        box = ipywidgets.VBox([self.widget, other.widget])
        return VolumeView("canvas", self.why, self.subjects + other.subjects, box)

    def _ipython_display_(self):
        if self.viewer != "canvas":
            display(self._repr_mimebundle_(), raw=True)
            return
        widget = self.widget._repr_mimebundle_
        bundle = self._figure()
        StandIn(widget, self._picture, self._words, ".rv", bundle).show()

    def _figure(self):
        figure = self.figure
        return {} if figure is None else {PLOTLY: json.loads(figure.to_json())}

    def _picture(self):
        return "image/png", self.png

    def _words(self):
        return ". ".join(self.subjects[0].shown().lines)

    def _repr_mimebundle_(self, **_):
        bundle = {"text/plain": self.why}
        if self.viewer == "itkwidgets":  # it has put itself into the notebook already
            return bundle
        bundle["image/png"] = in_text(self.png)
        bundle |= self._figure()
        if self.widget is not None:
            widget = self.widget._repr_mimebundle_()
            bundle |= widget[0] if isinstance(widget, tuple) else widget
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
    """Your own CT or MR with maps over it, in three linked planes.

    >>> view = rw.show.volume(ct, window_hu=(-1000, 400), title="A chest CT")

    Two volumes, or two maps side by side: `view.link(other)`.

    Args:
        volume: what to show; it needs an affine.
        map: a `Map` of the volume, an array (D, H, W), or a dict {name: map} of several
            that one switches between (a still and a figure show the first).
        viewer: "auto" = canvas in a notebook, else plotly, else a still; or one of
            "itkwidgets", "ipyniivue" (with a rendering), "canvas", "plotly", "still"
            that must be reachable.
        window_hu: what is black and what is white; None = soft tissue where the
            modality says CT, else the 1st and 99th percentile.
        at: (d, h, w), the voxel where the planes cross first; None = the first map's
            peak, or the middle.
        title: says the finding.
        alpha: opacity of the map's highest value; its lowest is clear.
        side: about the longest side that is sent to the browser at first; of a larger
            volume every second (third, ...) voxel is. canvas then gets each slice that
            is looked at with every voxel.
        height: of the widget, px; ipyniivue needs time in proportion to its square
            where WebGL is drawn by the CPU.
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
    in_hu = volume.modality == "CT"
    window = window_hu
    if window_hu is None:
        window = SOFT_TISSUE_HU if in_hu else robust_window(volume.voxels)
    elif volume.modality is None:  # a NIfTI doesn't say, but the caller does
        in_hu = True
    every = [max(1, round(n / side)) for n in volume.shape]
    maps = by_name(map)
    for one in maps.values():
        steps_of(one, volume)  # raises where it isn't the volume's
    subject = Subject(volume, maps, window, in_hu, at, title, alpha, every, height)
    return VolumeView(name, why, [subject], _widget(name, subject, why))


def by_name(map):
    """{name: map} of one map, of several, or of none."""
    if map is None:
        return {}
    if isinstance(map, dict):
        return dict(map)
    return {getattr(map, "method", "map"): map}


def _widget(name, subject, why):
    if name == "canvas":
        from radwb.show.volume_canvas import Canvas

        return Canvas(subject, why)
    if name == "ipyniivue":
        return volume_widgets.niivue(subject.shown(), subject.height, why)
    if name == "itkwidgets":
        return volume_widgets.itk(subject.shown())
    return None
