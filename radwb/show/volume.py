"""A volume with a map over it, in the best viewer that can be reached here, and words
that say which and why.

ipyniivue carries its viewer in the package, so it works offline and leads. itkwidgets
has to be asked for by name: its Python package holds no viewer but opens a fixed IPFS
address, its JupyterLab extension loads Vue from a CDN at each start, and where the
browser can't reach them the next cell of the notebook waits without end.
"""

import base64
import importlib.util
import io
import json
import socket
import sys
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from radwb.data.scan import Volume
from radwb.data.volumes import nifti_bytes, robust_window
from radwb.show.images import badge_lines, blend, extent, plane_name, planes
from radwb.show.theme import FAINT, FONT, INK, LONGEST, broken, plain

VIEWERS = (
    "itkwidgets",
    "ipyniivue",
    "plotly",
    "still",
)  # from the heaviest to the one that needs nothing
BY_NAME = (
    "only asked for by name, since it needs a network and stops the notebook without"
)
ITK_HOST = "dweb.link"  # what itkwidgets 1.0a55 opens its viewer from
SOFT_TISSUE = (-160, 240)  # HU
STEPS = 48  # slices a plane in the plotly figure: a page stays near a megabyte
HOW = "Wheel: slices. Left drag: crosshair, or turn the rendering. Right drag: window."


@dataclass(eq=False)
class VolumeView:
    """What `volume` returns: a notebook shows the widget, a page without a kernel the
    figure, any other the still.

    Args:
        viewer: one of `VIEWERS`.
        why: in words, which viewer was chosen, and why not those before it.
        png: the three planes as a still picture.
        figure: three planes with sliders, which work on an exported page; None where
            there's no plotly.
        widget: None for "plotly" and "still".
    """

    viewer: str
    why: str
    png: bytes = field(repr=False)
    figure: object = field(default=None, repr=False)
    widget: object = field(default=None, repr=False)
    scan: tuple = field(
        default=(), repr=False
    )  # the volume, what was sent of it, and every which voxel that is

    def lay(self, map, *, alpha: float = 0.75) -> None:
        """Put another map over the scan that is shown, without sending the scan again
        (ipyniivue only).
        """
        if self.viewer != "ipyniivue":
            raise ValueError(
                f"expected ipyniivue to lay another map, got {self.viewer}. Try rw.show.volume again."
            )
        niivue = self.widget.children[-1]
        niivue.volumes = [niivue.volumes[0], _layer(_level(map, *self.scan), alpha)]

    def _repr_mimebundle_(self, **_):
        if self.viewer == "itkwidgets":  # it has put itself into the notebook already
            return {"text/plain": self.why}
        bundle = {
            "text/plain": self.why,
            "image/png": base64.b64encode(self.png).decode(),
        }
        if self.figure is not None:
            bundle["application/vnd.plotly.v1+json"] = json.loads(self.figure.to_json())
        return bundle | (self.widget._repr_mimebundle_() if self.widget else {})


def volume(
    volume: Volume,
    map=None,
    *,
    viewer: str = "auto",
    window_hu: tuple[float, float] | None = None,
    at: tuple[int, int, int] | None = None,
    title: str = "",
    alpha: float = 0.75,
    side: int = 192,
    height: int = 460,
) -> VolumeView:
    """CT or MR with a map over it: three linked planes and a rendering.

    >>> rw.show.volume(ct, m, window_hu=(-1000, 400), title="Where the network looked")

    Args:
        map: a `Map` of the volume, or an array (D, H, W).
        viewer: "auto" = ipyniivue in a notebook, else plotly, else a still; or one of
            `VIEWERS` that must be reachable.
        window_hu: what is black and what is white; None = soft tissue where the
            modality says CT, else the 1st and 99th percentile.
        at: (d, h, w), the voxel where the planes cross first; None = the map's peak, or
            the middle.
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
            "expected a volume with an affine, got None: planes and distances aren't known"
        )
    window = window_hu or (
        SOFT_TISSUE if volume.modality == "CT" else robust_window(volume.voxels)
    )
    steps = [max(1, round(n / side)) for n in volume.shape]
    small = _thin(volume, steps)
    level = None if map is None else _level(map, volume, small, steps)
    if at is None:
        middle = [n // 2 for n in small.shape]
        at = (
            middle
            if map is None
            else np.unravel_index(int(level.voxels.argmax()), level.shape)
        )
    else:
        at = [n // step for n, step in zip(at, steps, strict=True)]
    look = _Look(small, level, steps, window, [int(n) for n in at], alpha)
    lines = [title, *_notes(volume, map, window, steps)]
    badges = badge_lines([map], 900)
    words = (
        [str(getattr(map, "badge", None) or "sanity: not checked")] if badges else []
    )
    words += [f"! {map.note}"] if getattr(map, "note", "") else []
    view = VolumeView(
        name, why, _still(look, [*lines, *words]), scan=(volume, small, steps)
    )
    if name != "still" and importlib.util.find_spec("plotly"):
        view.figure = _figure(look, lines, badges)
    if name == "ipyniivue":
        view.widget = _niivue(look, height, lines, badges, why)
    elif name == "itkwidgets":
        view.widget = _itk(look)
    return view


def choose(viewer: str = "auto") -> tuple[str, str]:
    """Which viewer can be reached from here, and in words why not those before it.

    >>> choose()
    ('ipyniivue', 'Shown with ipyniivue (itkwidgets: not installed, pip install
    "radwb[itk]")')
    """
    if viewer not in ("auto", *VIEWERS):
        raise ValueError(f"expected a viewer of {('auto', *VIEWERS)}, got {viewer!r}")
    reasons = {name: _missing(name) for name in VIEWERS}
    if viewer == "auto":
        reasons["itkwidgets"] = reasons["itkwidgets"] or BY_NAME
        viewer = next(name for name, missing in reasons.items() if not missing)
        passed = "; ".join(
            f"{name}: {reasons[name]}" for name in VIEWERS[: VIEWERS.index(viewer)]
        )
        return viewer, f"Shown with {viewer} ({passed})"
    if reasons[viewer]:
        raise ValueError(
            f"expected a viewer that can be reached, got {viewer}: {reasons[viewer]}. Try viewer='auto'."
        )
    return viewer, f"Shown with {viewer}, as asked for"


def _missing(viewer):
    """Why a viewer can't be reached; "" where it can. A still needs nothing."""
    if viewer != "still" and not importlib.util.find_spec(viewer):
        return "not installed, pip install " + (
            '"radwb[itk]"' if viewer == "itkwidgets" else viewer
        )
    if viewer in ("itkwidgets", "ipyniivue") and not _in_notebook():
        return "no notebook is running"
    if viewer == "itkwidgets" and not _answers(ITK_HOST):
        return f"its viewer comes from {ITK_HOST}, which doesn't answer"
    return ""


def _in_notebook():
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def _answers(host, seconds=1.0):
    try:
        with socket.create_connection((host, 443), timeout=seconds):
            return True
    except OSError:
        return False


@dataclass
class _Look:
    """What is shown: the thinned volume, the map from 0 to 1 on the same voxels, and
    how.
    """

    small: Volume
    level: Volume | None
    steps: list[int]
    window: tuple[float, float]
    at: list[int]
    alpha: float

    def axes(self):
        return sorted(range(3), key=lambda axis: plane_name(self.small, axis))

    def number(self, axis, index):
        """A slice's number among those of the volume, from 1."""
        return index * self.steps[axis] + 1

    def picture(self, axis, index):
        """One slice as a radiologist looks at it, with the map over it."""
        share = (
            None if self.level is None else self.level.slice(axis, index, (0, 1)).pixels
        )
        return blend(
            self.small.slice(axis, index, self.window).pixels, share, self.alpha
        )


def _thin(volume, steps):
    voxels = np.asarray(volume.voxels[tuple(slice(None, None, step) for step in steps)])
    whole = np.abs(voxels).max() < 2**15 and np.array_equal(voxels, np.rint(voxels))
    affine = volume.affine @ np.diag([*steps, 1.0])
    about = dict(inverted=volume.inverted, padding=volume.padding)
    kind = np.int16 if whole else np.float32
    return Volume(voxels.astype(kind), affine, volume.modality, volume.source, **about)


def _level(map, volume, small, steps):
    """The map from 0, its lowest value, to 1, its highest, on the voxels that are
    shown.
    """
    values, affine = (
        np.asarray(getattr(map, "values", map)),
        getattr(map, "affine", None),
    )
    own = (
        np.eye(4) if affine is None else np.linalg.solve(volume.affine, affine)
    )  # its index -> the volume's
    every = np.diag(own)[:3]
    size = tuple(
        int(np.ceil(n / step))
        for n, step in zip(volume.shape, np.maximum(every, 1), strict=True)
    )
    if np.abs(own - np.diag(np.diag(own))).max() > 1e-3 or values.shape != size:
        raise ValueError(
            f"expected a map of this volume {volume.shape}, got {values.shape} or one that lies elsewhere"
        )
    picked = [
        np.rint(np.arange(n) * step / e).astype(int).clip(0, last - 1)
        for n, step, e, last in zip(
            small.shape, steps, every, values.shape, strict=True
        )
    ]
    low, high = float(values.min()), float(values.max())
    return Volume(
        ((values[np.ix_(*picked)] - low) / ((high - low) or 1)).astype(np.float32),
        small.affine,
    )


def _notes(volume, map, window, steps):
    """Lines of a caption: the window and the voxels; what the map is."""
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing_mm)
    words = [
        volume.modality or "volume",
        "window {:.4g} to {:.4g}".format(*window),
        f"voxels {spacing} mm",
    ]
    words[1] += " HU" if volume.modality == "CT" else ""
    words[1] += ", low values bright (MONOCHROME1)" if volume.inverted else ""
    words[2] += (
        ""
        if max(steps) == 1
        else f", shown at every {' x '.join(str(n) for n in steps)}"
    )
    lines = ["; ".join(words)]
    if map is not None:
        values, target = getattr(map, "values", map), getattr(map, "target", None)
        name = getattr(map, "method", "map") + (
            "" if target is None else f", target {target}"
        )
        lines.append(
            f"{name}: dark = lowest ({np.min(values):.3g}), yellow = highest ({np.max(values):.3g})"
        )
    return lines


def _still(look, lines, tall=300):
    """PNG: the three planes through one voxel, a millimetre as long in each, and the
    caption below.
    """
    font, cuts = ImageFont.load_default(15), []
    sizes = {
        axis: extent(look.small.slice(axis, look.at[axis], look.window))
        for axis in look.axes()
    }
    scale = tall / max(high for high, _ in sizes.values())
    for axis, (high, wide) in sizes.items():
        picture = look.picture(axis, look.at[axis])
        name = (
            f"{plane_name(look.small, axis)} slice {look.number(axis, look.at[axis])}"
        )
        cuts.append(
            (
                picture.resize(
                    (max(1, round(wide * scale)), max(1, round(high * scale)))
                ),
                name,
            )
        )
    lines = [line for line in lines if line]
    width = max(sum(picture.width + 12 for picture, _ in cuts) + 12, 640)
    page = Image.new("RGB", (width, tall + 44 + 22 * len(lines)), "white")
    draw, x = ImageDraw.Draw(page), 12
    for picture, name in cuts:
        draw.text((x, 8), name, INK, font)
        page.paste(picture, (x, 32))
        x += picture.width + 12
    for n, line in enumerate(lines):
        line = " ".join(line[:LONGEST].split())
        draw.text((12, tall + 38 + 22 * n), line, FAINT if n else INK, font)
    return _bytes(page, "PNG", optimize=True)


def _bytes(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _figure(look, lines, badges):
    """Three planes, each with a slider over its slices; the pictures lie in the figure,
    so that it works offline.
    """
    figure = planes(
        look.small, window_hu=look.window, at=tuple(look.at), title=lines[0], width=1000
    )
    notes = [plain(line) for line in lines[1:]]
    caption = "<br>".join(
        [*notes, *badges, "axes in mm; the slider below a plane moves its slice"]
    )
    extra = 18 * caption.count("<br>")
    figure.update_layout(
        sliders=[_slider(look, figure, n, axis) for n, axis in enumerate(look.axes())],
        title_text=broken(lines[0]),
        title_subtitle_text=caption,
        height=figure.layout.height + extra + 70,
        margin=dict(t=figure.layout.margin.t + extra, b=figure.layout.margin.b + 70),
    )
    for note, axis in zip(figure.layout.annotations, look.axes(), strict=True):
        note.text = plane_name(look.small, axis)
    return figure


def _slider(look, figure, n, axis):
    """Below plane n of the figure; each step swaps the picture of its trace."""
    here, step = look.at[axis], -(-look.small.shape[axis] // STEPS)
    cuts = list(range(here % step, look.small.shape[axis], step))
    pictures = [
        _bytes(look.picture(axis, i), "JPEG", quality=88, subsampling=0) for i in cuts
    ]
    sources = [
        f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        for picture in pictures
    ]
    figure.data[n].source = sources[cuts.index(here)]
    left, right = figure.layout[f"xaxis{n + 1 if n else ''}"].domain
    labels = [str(look.number(axis, i)) for i in cuts]
    return dict(
        steps=[
            dict(method="restyle", args=[{"source": [uri]}, [n]], label=label)
            for uri, label in zip(sources, labels, strict=True)
        ],
        active=cuts.index(here),
        currentvalue=dict(
            prefix=f"{plane_name(look.small, axis)} slice ", font_size=14
        ),
        x=left,
        len=right - left,
        y=0,
        pad=dict(t=44, b=0),
        ticklen=0,
        minorticklen=0,
        font_color="rgba(0,0,0,0)",
    )


def _niivue(look, height, lines, badges, why):
    """ipyniivue's widget below a caption: all of it lives in the notebook, so it comes
    back after saving.
    """
    import ipywidgets
    from ipyniivue import DragMode, MultiplanarType, NiiVue, ShowRender
    from ipyniivue import Volume as Layer

    niivue = NiiVue(
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
        is_colorbar=look.level is not None,
    )
    low, high = map(float, look.window)
    voxels = look.small.voxels
    if look.small.inverted:  # the viewer shows high values bright
        voxels, low, high = -voxels, -high, -low
    scan = nifti_bytes(voxels, look.small.affine)
    layers = [
        Layer(
            name="scan.nii.gz",
            data=scan,
            cal_min=low,
            cal_max=high,
            colorbar_visible=False,
        )
    ]
    niivue.load_volumes(
        layers + ([] if look.level is None else [_layer(look.level, look.alpha)])
    )
    niivue.scene.crosshair_pos = _ras_fraction(look.small, look.at)
    head = (
        f"<b style='font-size:17px;color:{INK}'>{broken(lines[0])}</b><br>"
        if lines[0]
        else ""
    )
    notes = [plain(line) for line in lines[1:]]
    text = "<br>".join([*notes, *badges, f"{HOW} {plain(why)}."])
    style = f"font:14px/1.4 {FONT.replace(chr(39), '')};color:{FAINT};margin:4px 0"
    return ipywidgets.VBox(
        [ipywidgets.HTML(f"<div style='{style}'>{head}{text}</div>"), niivue]
    )


def _layer(level, alpha):
    from ipyniivue import ColormapType
    from ipyniivue import Volume as Layer

    coarse = (
        np.rint(level.voxels * 255).astype(np.float32) / 255
    )  # 256 values pack to a tenth
    return Layer(
        name="map.nii.gz",
        data=nifti_bytes(coarse, level.affine),
        colormap="inferno",
        opacity=alpha,
        cal_min=0.5,
        cal_max=1.0,
        colormap_type=ColormapType.ZERO_TO_MAX_TRANSLUCENT_BELOW_MIN,
    )


def _ras_fraction(volume, at):
    """Where a voxel lies from left to right, back to front, feet to head of the
    patient, each from 0 to 1.
    """
    place = [0.5] * 3
    for axis, (i, n) in enumerate(zip(at, volume.shape, strict=True)):
        (world, sign), along = volume.world[axis], (i + 0.5) / n
        grows_in_ras = (sign > 0) == (world == 2)  # L and P grow in LPS
        place[world] = along if grows_in_ras else 1 - along
    return place


def _itk(look):
    """itkwidgets' viewer, the map as five steps of a label image. Seen to be built, not
    to draw: it needs a network.
    """
    import itkwidgets
    from ngff_zarr import to_ngff_image

    def placed(values):
        return to_ngff_image(
            values,
            dims=list("zyx"),
            scale=dict(zip("zyx", look.small.spacing_mm, strict=True)),
        )

    steps = (
        {}
        if look.level is None
        else {"label_image": placed(np.rint(look.level.voxels * 5).astype(np.uint8))}
    )
    return itkwidgets.view(image=placed(look.small.voxels), **steps)
