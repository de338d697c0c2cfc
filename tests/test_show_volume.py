"""Which viewer rw.show.volume chooses, and what it says of that.

What each shows lies where it should.
"""

import base64
import gzip
import importlib.util
import io
import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import radwb as rw
from radwb.data import Volume
from radwb.data.volumes import nifti_bytes, robust_window
from radwb.show import viewers
from radwb.show import volume_subject as subjects
from radwb.show.theme import INK
from radwb.show.volume_canvas import slice_message
from radwb.show.volume_planes import planes_of
from radwb.show.volume_widgets import ras_fraction

RNG = np.random.default_rng(0)
AXIAL = np.array([[0, 0, 0.8, -50], [0, 0.7, 0, -20], [2.5, 0, 0, 10], [0, 0, 0, 1.0]])
TURNED = np.array(
    [[0, -0.7, 0, 40], [0, 0, -0.8, 30], [-2.0, 0, 0, 90], [0, 0, 0, 1.0]]
)


@pytest.fixture
def ct():
    return Volume(
        np.rint(np.random.default_rng(0).normal(0, 300, (20, 30, 40))).astype(
            np.float32
        ),
        AXIAL,
        "CT",
    )


def a_map(volume, at):
    values = np.zeros(volume.shape, np.float32)
    values[at] = 0.5
    return rw.attend.map.Map(
        values, "relevance", 0, None, "nodule", "vit", volume.affine
    )


def without(monkeypatch, *absent, notebook=True, network=True):
    """A machine that has all viewers but these."""
    real = importlib.util.find_spec

    def find(name, *rest):
        if name in absent:
            return None
        return real(name, *rest) or (object() if name in viewers.VIEWERS else None)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(viewers, "in_notebook", lambda: notebook)
    monkeypatch.setattr(viewers, "answers", lambda host, seconds=1.0: network)


# ---- the choice


def test_our_own_viewer_is_chosen_in_a_notebook(monkeypatch):
    without(monkeypatch, "itkwidgets")
    name, why = viewers.choose()
    assert name == "canvas"
    assert why == (
        'Shown with canvas (itkwidgets: not installed, pip install "radwb[itk]"; '
        "ipyniivue: only asked for by name, since it needs WebGL)"
    )


def test_itkwidgets_is_never_chosen_unasked_since_it_can_stop_a_notebook(monkeypatch):
    without(monkeypatch)
    name, why = viewers.choose()
    assert name == "canvas"
    assert "itkwidgets: only asked for by name, since it needs a network" in why
    assert viewers.choose("itkwidgets") == (
        "itkwidgets",
        "Shown with itkwidgets, as asked for",
    )


@pytest.mark.parametrize(
    ("absent", "notebook", "chosen", "said"),
    [
        (
            ("itkwidgets", "ipyniivue", "anywidget"),
            True,
            "plotly",
            "ipyniivue: not installed, pip install ipyniivue",
        ),
        (("itkwidgets",), False, "plotly", "canvas: no notebook is running"),
        (
            ("itkwidgets", "ipyniivue", "anywidget", "plotly"),
            True,
            "still",
            "plotly: not installed, pip install plotly",
        ),
    ],
)
def test_the_next_best_is_chosen_and_the_reason_said(
    monkeypatch, ct, absent, notebook, chosen, said
):
    without(monkeypatch, *absent, notebook=notebook)
    view = rw.show.volume(ct)
    assert view.viewer == chosen
    assert said in view.why
    assert view.why.startswith(f"Shown with {chosen} (itkwidgets: not installed")
    assert (view.figure is None) == (chosen == "still")


@pytest.mark.parametrize(
    ("viewer", "absent", "network", "said"),
    [
        (
            "itkwidgets",
            ("itkwidgets",),
            True,
            r"itkwidgets: not installed, pip install .radwb\[itk\]",
        ),
        (
            "itkwidgets",
            (),
            False,
            "its viewer comes from dweb.link, which doesn't answer",
        ),
        ("ipyniivue", ("ipyniivue",), True, "ipyniivue: not installed"),
        ("plotly", ("plotly",), True, "plotly: not installed"),
        ("vtk", (), True, "expected a viewer of"),
    ],
)
def test_a_viewer_that_cannot_be_reached_is_an_error_that_says_why(
    monkeypatch, ct, viewer, absent, network, said
):
    without(monkeypatch, *absent, network=network)
    with pytest.raises(ValueError, match=said):
        rw.show.volume(ct, viewer=viewer)


def test_a_host_that_does_not_answer_is_no_error():
    assert viewers.answers("nowhere.invalid", 0.2) is False


def test_the_extra_itk_cannot_downgrade_ipywidgets():
    import tomllib
    from pathlib import Path

    from packaging.requirements import Requirement

    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())[
        "project"
    ]
    ranges = {
        r.name: r.specifier
        for r in map(Requirement, extras["optional-dependencies"]["itk"])
    }
    assert not ranges["itkwidgets"].contains("0.32.6")
    assert ranges["itkwidgets"].contains("1.0a55", prereleases=True)
    assert not ranges["ipywidgets"].contains("7.8.5")
    assert not ranges["ngff-zarr"].contains("0.50.0")


# ---- what is shown


def words_of(view):
    """Title and caption of the figure."""
    title = view.figure.layout.title
    return f"{title.text}<br>{title.subtitle.text}"


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def hot(picture):
    """Rows and columns of the pixels that are neither grey nor white: the map's."""
    return np.argwhere(picture.max(-1) - picture.min(-1) > 60)


@pytest.mark.parametrize("affine", [AXIAL, TURNED])
def test_each_picture_has_the_map_where_the_slice_shows_its_voxel(affine):
    volume = Volume(np.zeros((20, 30, 40), np.float32), affine, "CT")
    place = (12, 7, 31)
    view = rw.show.volume(
        volume, a_map(volume, tuple(slice(n - 1, n + 2) for n in place)), at=place
    )
    for n, axis in enumerate(planes_of(volume)):
        data = base64.b64decode(view.figure.data[n].source.split(",")[1])
        spot = np.zeros(volume.shape, np.float32)
        spot[place] = 1
        want = np.argwhere(
            Volume(spot, affine).slice(axis, place[axis], (0, 1)).pixels > 0
        ).mean(0)
        assert np.allclose(hot(opened(data)).mean(0), want, atol=0.6)


def test_a_slider_goes_through_the_slices_of_its_plane(ct):
    figure = rw.show.volume(ct, at=(5, 10, 15)).figure
    names = [s.currentvalue.prefix for s in figure.layout.sliders]
    assert names == ["axial slice ", "coronal slice ", "sagittal slice "]
    axial = figure.layout.sliders[0]
    assert axial.currentvalue.font.color == INK  # else it's clear, as the steps' labels
    assert [step.label for step in axial.steps] == [str(n + 1) for n in range(20)]
    assert axial.active == 5
    assert axial.steps[5].args[0]["source"][0] == figure.data[0].source
    assert list(axial.steps[9].args[1]) == [0]
    shown = opened(base64.b64decode(axial.steps[9].args[0]["source"][0].split(",")[1]))[
        ..., 0
    ]
    assert (
        np.abs(shown - ct.slice(0, 9, (-160, 240)).pixels * 255).mean() < 12
    )  # JPEG of noise


def test_the_planes_cross_at_the_maps_peak(ct):
    view = rw.show.volume(ct, a_map(ct, (3, 20, 11)))
    assert [s.active for s in view.figure.layout.sliders] == [3, 20, 11]


def test_a_large_volume_is_thinned_and_says_so():
    volume = Volume(RNG.normal(0, 300, (30, 120, 90)).astype(np.float32), AXIAL, "CT")
    view = rw.show.volume(volume, a_map(volume, (3, 61, 40)), side=40)
    assert "shown at every 1 x 3 x 2" in words_of(view)
    assert (
        view.figure.layout.sliders[1].steps[1].label == "4"
    )  # slices keep their numbers
    thin = view.subjects[0].small()
    assert np.array_equal(thin.voxels, volume.voxels[:, ::3, ::2])
    assert np.allclose(thin.affine @ [3, 5, 7, 1], volume.affine @ [3, 15, 14, 1])


def test_no_empty_band_stands_between_the_caption_and_the_planes(ct):
    figure = rw.show.volume(ct, title="A title").figure
    head = figure.layout.title
    lines = 1 + head.subtitle.text.count("<br>")
    words_px = 16 + 24 + 19 * lines
    assert 25 < figure.layout.margin.t - words_px < 50
    more = rw.show.volume(ct, np.ones(ct.shape), title="A title").figure
    further = more.layout.title.subtitle.text.count("<br>") + 1 - lines
    assert further > 0
    taller = more.layout.height - figure.layout.height
    assert taller == 19 * further


def test_a_map_at_every_second_voxel_lies_where_its_affine_says(ct):
    values = RNG.random((10, 15, 20)).astype(np.float32)
    m = rw.attend.map.Map(values, "rollout", affine=ct.affine @ np.diag([2, 2, 2, 1.0]))
    level = subjects.level_on(m, ct, ct, [1, 1, 1]).voxels
    span = values.max() - values.min()
    assert np.allclose(level[::2, ::2, ::2], (values - values.min()) / span, atol=1e-6)
    fine, steps = RNG.random(ct.shape).astype(np.float32), [2, 3, 1]
    thinned = subjects.level_on(
        rw.attend.map.Map(fine, "x", affine=ct.affine),
        ct,
        subjects.thinned(ct, steps),
        steps,
    ).voxels
    assert np.allclose(
        thinned, (fine[::2, ::3] - fine.min()) / (fine.max() - fine.min()), atol=1e-6
    )


def test_the_window_is_soft_tissue_for_ct_and_percentiles_for_mr(ct):
    assert "window -160 to 240 HU" in words_of(rw.show.volume(ct))
    voxels = np.zeros((20, 30, 40), np.float32)
    voxels[5:15, 5:25, 5:35] = RNG.uniform(100, 900, (10, 20, 30))
    words = words_of(rw.show.volume(Volume(voxels, AXIAL, "MR")))
    low, high = robust_window(voxels)
    assert f"window {low:.4g} to {high:.4g};" in words
    assert low == pytest.approx(108, abs=3)
    assert high == pytest.approx(892, abs=3)


def test_the_still_says_what_it_shows(ct):
    view = rw.show.volume(ct, a_map(ct, (3, 20, 11)), viewer="still", title="A nodule")
    picture = opened(view.png)
    assert picture.shape[1] >= 640
    assert len(hot(picture)) > 20
    bare = opened(rw.show.volume(ct, viewer="still").png)
    assert len(hot(bare)) == 0
    assert (bare < 100).any()


def test_the_still_says_a_maps_note(ct):
    m = a_map(ct, (3, 20, 11))
    noted = rw.attend.map.Map(
        m.values, "gradcam", affine=ct.affine, note="no positive\nevidence"
    )
    stills = [opened(rw.show.volume(ct, one, viewer="still").png) for one in (m, noted)]
    assert stills[1].shape[0] == stills[0].shape[0] + 22  # one line more


def test_the_badge_is_said_or_that_there_is_none(ct):
    m = a_map(ct, (3, 20, 11))
    assert "sanity: not checked" in words_of(rw.show.volume(ct, m))
    failed = rw.attend.map.Map(
        m.values,
        "rollout",
        affine=ct.affine,
        badge=rw.attend.map.Badge({"parameters": False}, 8),
    )
    said = words_of(rw.show.volume(ct, failed))
    assert "sanity: fails parameters (n = 8)" in said


# ---- our own viewer


@pytest.fixture
def canvas(monkeypatch, ct):
    monkeypatch.setattr(viewers, "in_notebook", lambda: True)
    return lambda map=None, volume=ct, **options: rw.show.volume(
        volume, map, viewer="canvas", **options
    )


@pytest.mark.parametrize("affine", [AXIAL, TURNED])
def test_a_plane_that_is_sent_is_the_slice_as_it_is_hung(affine):
    volume = Volume(RNG.integers(-900, 900, (6, 7, 8)).astype(np.float32), affine, "CT")
    for axis in range(3):
        about, (data,) = slice_message(volume, axis, 2, 2)
        sent = np.frombuffer(data, about["kind"]).reshape(
            about["height"], about["width"]
        )
        shown = ((sent.astype(np.float32) + 1000) / 2000).clip(0, 1)
        want = volume.slice(axis, 2, (-1000, 1000)).pixels
        assert np.allclose(shown, want, atol=1e-6)
        thick, (data,) = slice_message(volume, axis, 1, 3)
        highest = np.frombuffer(data, thick["kind"])
        block = np.take(volume.voxels, [1, 2, 3], axis)
        assert sorted(highest) == sorted(block.max(axis).ravel())
        assert thick["key"] == f"[{axis},1,3]"  # as JSON.stringify writes it


def test_the_letters_say_which_side_is_which(canvas):
    planes = canvas().widget.about["planes"]
    assert [plane["name"] for plane in planes] == ["axial", "coronal", "sagittal"]
    letters = [plane["letters"] for plane in planes]  # left, right, top, bottom
    assert letters == [list("RLAP"), list("RLHF"), list("APHF")]


def test_the_voxels_are_with_the_widget_while_a_page_shows_it(canvas, ct):
    view = canvas({"a": a_map(ct, (3, 20, 11)), "b": a_map(ct, (4, 4, 4))})
    widget = view.widget
    assert not widget.scan
    widget._handle_custom_msg({"need": True}, [])
    voxels = np.frombuffer(gzip.decompress(widget.scan), widget.about["kind"])
    assert np.array_equal(voxels.reshape(ct.shape), ct.voxels)
    assert [layer["peak"] for layer in widget.layers] == [[3, 20, 11], [4, 4, 4]]
    level = np.frombuffer(gzip.decompress(widget.layers[1]["data"]), np.uint8)
    assert np.flatnonzero(level).tolist() == [np.ravel_multi_index((4, 4, 4), ct.shape)]
    view.lay(a_map(ct, (7, 7, 7)), alpha=0.5)
    assert [layer["peak"] for layer in widget.layers] == [[7, 7, 7]]
    assert widget.look["alpha"] == 0.5
    widget._handle_custom_msg({"gone": True}, [])
    assert not widget.scan
    assert not any(layer["data"] for layer in widget.layers)


def test_windows_of_a_ct_are_offered_for_hounsfield_units_alone(canvas, ct):
    def offered(modality, **options):
        volume = Volume(ct.voxels, AXIAL, modality)
        return len(canvas(volume=volume, **options).widget.about["presets"])

    assert offered("CT") == 4
    assert offered("MR", window_hu=(0, 100)) == offered(None) == 0
    assert offered(None, window_hu=(-1000, 400)) == 4


def test_linked_views_are_both_on_the_still_and_a_still_cannot_be_linked(canvas, ct):
    view = canvas()
    both = view.link(canvas())
    assert opened(both.png).shape[0] == 2 * opened(view.png).shape[0]
    assert both.figure is None
    with pytest.raises(ValueError, match="expected two views with canvas, got canvas"):
        view.link(rw.show.volume(ct, viewer="still"))


# ---- ipyniivue


@pytest.fixture
def niivue(monkeypatch, ct):
    pytest.importorskip("ipyniivue")
    monkeypatch.setattr(viewers, "in_notebook", lambda: True)
    return lambda map=None, volume=ct, **options: rw.show.volume(
        volume, map, viewer="ipyniivue", **options
    )


def test_the_widget_gets_the_scan_and_the_map_as_nifti_in_the_patients_place(
    niivue, ct
):
    m = a_map(ct, (3, 20, 11))
    scan, laid = niivue(m, window_hu=(-1000, 400)).widget.children[1].volumes
    for layer, voxels in ((scan, ct.voxels), (laid, m.values / 0.5)):
        image = nib.Nifti1Image.from_bytes(gzip.decompress(layer.data))
        assert np.allclose(image.get_fdata().transpose(2, 1, 0), voxels, atol=1 / 255)
        lps = np.diag([-1, -1, 1, 1]) @ image.affine @ [11, 20, 3, 1]
        assert np.allclose(lps, ct.affine @ [3, 20, 11, 1], atol=1e-3)
    assert (scan.cal_min, scan.cal_max) == (-1000, 400)
    assert laid.colormap == "inferno"
    assert laid.opacity == 0.75


@pytest.mark.parametrize("affine", [AXIAL, TURNED])
def test_the_crosshair_starts_where_the_voxel_lies_in_the_patient(affine):
    volume = Volume(np.zeros((20, 30, 40), np.float32), affine)
    fraction = ras_fraction(volume, (3, 20, 11))
    corners = np.array(
        [affine @ [*c, 1] for c in ((-0.5, -0.5, -0.5), (19.5, 29.5, 39.5))]
    )[:, :3] * [-1, -1, 1]
    world = (affine @ [3, 20, 11, 1])[:3] * [-1, -1, 1]
    want = (world - corners.min(0)) / (corners.max(0) - corners.min(0))
    assert np.allclose(fraction, want)


def test_another_map_is_laid_without_sending_the_scan_again(niivue, ct):
    view = niivue(a_map(ct, (3, 20, 11)))
    before = view.widget.children[1].volumes
    view.lay(a_map(ct, (4, 4, 4)))
    after = view.widget.children[1].volumes
    assert after[0] is before[0]
    assert after[1].data != before[1].data
    with pytest.raises(
        ValueError, match="expected canvas or ipyniivue to lay another map, got still"
    ):
        rw.show.volume(ct, viewer="still").lay(a_map(ct, (4, 4, 4)))


def test_saving_keeps_the_scan_in_the_notebook(niivue, ct):
    from ipywidgets import Widget

    view = niivue(a_map(ct, (3, 20, 11)))
    state = Widget.get_manager_state(widgets=None)["state"]
    layers = [
        v
        for v in state.values()
        if v["state"].get("name") in ("scan.nii.gz", "map.nii.gz")
    ]
    stored = {base64.b64decode(b["data"]) for v in layers for b in v["buffers"]}
    assert {layer.data for layer in view.widget.children[1].volumes} <= stored


def test_the_output_carries_a_widget_a_figure_and_a_still_and_a_page_shows_the_figure(
    niivue, ct
):
    import nbformat

    from radwb.book import pages

    bundle = niivue(a_map(ct, (3, 20, 11)))._repr_mimebundle_()
    assert {
        "application/vnd.jupyter.widget-view+json",
        "image/png",
        "text/plain",
    } <= set(bundle)
    output = nbformat.v4.new_output("display_data", json.loads(json.dumps(bundle)))
    page = pages.output_html(output)
    assert "plotly" in page
    assert "axial slice " in page


def test_clear_answers(ct):
    with pytest.raises(ValueError, match="with an affine, got None"):
        rw.show.volume(Volume(ct.voxels, None))
    for wrong in (
        np.zeros((3, 3, 3)),
        rw.attend.map.Map(np.zeros((3, 3, 3)), "x", affine=AXIAL),
    ):
        with pytest.raises(
            ValueError,
            match=r"expected a map of this volume \(20, 30, 40\), got \(3, 3, 3\)",
        ):
            rw.show.volume(ct, wrong)
    with pytest.raises(ValueError, match="lies elsewhere"):
        rw.show.volume(ct, rw.attend.map.Map(np.zeros(ct.shape), "x", affine=TURNED))


def test_a_volume_with_one_slice_and_one_without_contrast_are_shown():
    for voxels in (np.ones((1, 30, 40), np.float32), np.zeros((5, 6, 7), np.float32)):
        view = rw.show.volume(Volume(voxels, AXIAL, "MR"), np.zeros(voxels.shape))
        assert view.figure is not None
        assert opened(view.png).size


def test_nifti_bytes_say_millimetres_and_the_note():
    image = nib.Nifti1Image.from_bytes(
        nifti_bytes(np.zeros((2, 3, 4), np.int16), AXIAL, "é" + "x" * 99, packed=False)
    )
    assert image.shape == (4, 3, 2)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["descrip"].item().decode() == "?" + "x" * 78
