"""Truth masks: no specks, nothing on the wrong side.

Never empty where something can be seen, alike at any size.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

import radwb as rw
from radwb.simulate import PLANTED, Finding, draw
from radwb.simulate.anatomy import FIELD_MM
from radwb.simulate.body import Body
from radwb.simulate.devices import to_film
from radwb.simulate.findings import shaped
from radwb.simulate.mechanisms import Lungs
from radwb.simulate.outlines import PIECE_MM2, SEEN, Outlines, whole
from radwb.simulate.plant import plant
from radwb.simulate.project import sample

ONE_SIDED = [
    name for name in PLANTED if name not in ("Cardiomegaly", "Edema", "Support Devices")
]
IN_PLACE = [name for name in PLANTED if name != "Support Devices"]


@pytest.fixture(scope="module")
def anatomy():
    return rw.simulate.default_anatomy()


def patients(anatomy, names, n, view="PA"):
    """Bent patients with one finding each: (finding, rays)."""
    rng = np.random.default_rng(5)
    for name in names:
        for _ in range(n):
            finding = draw(name, anatomy, rng)
            yaw = float(rng.normal(0, 4))
            aorta = float(rng.uniform(0, 12))
            body = shaped(Body(yaw_deg=yaw, aorta_mm=aorta), [finding])
            yield finding, sample(anatomy, body, view)


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_mask_has_no_speck_and_no_pinhole(anatomy, name):
    for finding, rays in patients(anatomy, [name], 4):
        mask = plant(rays, [finding]).truth[name]
        for part in (mask, ~mask):
            pieces, n = ndimage.label(part)
            areas = ndimage.sum_labels(part, pieces, range(1, n + 1)) * rays.pixel_mm**2
            assert (np.sort(areas)[:-1] >= PIECE_MM2).all()


@pytest.mark.parametrize("view", ["PA", "AP"])
@pytest.mark.parametrize("name", ONE_SIDED)
def test_a_finding_of_one_side_never_crosses_the_midline(anatomy, name, view):
    """The midline is drawn as a wire would be: points midway between the lungs,
    projected onto the film.
    """
    marks = anatomy.marks
    middle = np.mean(
        [np.mean([p[0] for p in marks[f"{side} edge"]]) for side in ("right", "left")]
    )
    depth = float(
        anatomy.centres[(anatomy.centres - marks["carina"][1]).abs().argmin()]
    )
    wire = np.array([[middle, depth, z] for z in np.linspace(-110, 150, 60)])
    for finding, rays in patients(anatomy, [name], 3, view):
        rows, columns = to_film(rays, wire).T
        order = np.argsort(rows)
        midline = np.interp(np.arange(160), rows[order], columns[order])
        row, column = np.nonzero(plant(rays, [finding]).truth[name])
        beyond = (
            midline[row] - column if finding.side == "left" else column - midline[row]
        )
        assert beyond.max() < 1


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_can_be_seen_has_an_outline(anatomy, name):
    for finding, rays in patients(anatomy, [name], 4):
        assert plant(rays, [finding]).truth[name].any()


@pytest.mark.parametrize("name", [n for n in ONE_SIDED if n != "Pneumothorax"])
def test_a_fading_finding_loses_its_outline_when_nothing_of_it_can_be_seen(
    anatomy, name
):
    (finding, rays), *_ = patients(anatomy, [name], 1)
    ground = Outlines(rays, Lungs(rays))
    for visibility in (0.0, 0.003, 0.01, 0.03, 0.1, 0.3):
        planted = plant(rays, [finding], visibility=visibility)
        added = (planted.paths.soft - rays.paths.soft) * 0.2059
        assert planted.truth[name].any() == bool(ground.seen(added).max() > SEEN)


def test_the_same_change_is_seen_less_behind_the_heart_than_in_the_lung(anatomy):
    rays = sample(anatomy, Body(), "PA")
    change = Outlines(rays, Lungs(rays)).seen(torch.full((160, 160), 0.1)).numpy()
    lung = rays.organs["Lungs"] & ~rays.organs["Heart"]
    assert change[rays.organs["Heart"]].mean() < 0.9 * change[lung].mean()
    assert change.max() < 0.1  # scatter veils, it doesn't add


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_mask_is_alike_at_any_size(anatomy, name):
    coarse = rw.simulate.default_anatomy(FIELD_MM / 64)
    (finding, rays), *_ = patients(anatomy, [name], 1)
    large = torch.from_numpy(plant(rays, [finding]).truth[name])
    small = plant(sample(coarse, rays.body, "PA", 64), [finding]).truth[name]
    shrunk = (
        torch.nn.functional.adaptive_avg_pool2d(large[None, None].float(), 64)[
            0, 0
        ].numpy()
        > 0.5
    )
    thin = name in (
        "Cardiomegaly",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Other",
    )  # two or three of 64 pixels wide
    assert (small & shrunk).sum() > (0.5 if thin else 0.75) * (small | shrunk).sum()


def test_cardiomegaly_is_outlined_where_the_heart_is_too_large(anatomy):
    areas = []
    for severity in (0.0, 0.5, 1.0):
        finding = Finding("Cardiomegaly", severity)
        rays = sample(anatomy, shaped(Body(), [finding]), "PA")
        average = sample(anatomy, replace(rays.body, heart=1.0), "PA").organs["Heart"]
        mask = plant(rays, [finding]).truth["Cardiomegaly"]
        edge = ndimage.binary_dilation(rays.organs["Heart"], iterations=1)
        assert (mask & ~edge).sum() == 0
        assert (
            mask & average
        ).sum() < 0.1 * mask.sum()  # an outline is smoothed by 3 mm
        areas.append(mask.sum())
    assert 0 < areas[0] < areas[1] < areas[2]


def test_a_pneumothorax_is_one_run_from_the_chest_wall(anatomy):
    finding = Finding("Pneumothorax", 0.6, "left")
    mask = plant(sample(anatomy, Body(), "PA"), [finding]).truth["Pneumothorax"]
    runs = (np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(int), axis=1) == 1).sum(1)
    assert runs.max() == 1


def test_a_collapsed_lobes_mask_leaves_out_what_it_pulls(anatomy):
    finding = draw(
        "Atelectasis",
        anatomy,
        np.random.default_rng(3),
        severity=0.9,
        side="left",
        kind="lobar",
    )
    rays = sample(anatomy, shaped(Body(), [finding]), "PA")
    mask = plant(rays, [finding]).truth["Atelectasis"]
    lungs = Lungs(rays)
    lobe = lungs.project(lungs.lobe(finding).float()).numpy() > 0
    assert (mask & ~ndimage.binary_dilation(lobe, iterations=2)).sum() == 0


def test_whole_drops_specks_fills_pinholes_and_keeps_the_largest_however_small():
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[5:20, 5:20] = True
    mask[10, 10] = False  # a pinhole
    mask[30, 30:33] = True  # a speck
    expected = torch.zeros_like(mask)
    expected[5:20, 5:20] = True
    torch.testing.assert_close(whole(mask, 2.0), expected)
    mask[5:20, 5:20] = False
    assert whole(mask, 2.0).sum() == 3
    assert not whole(torch.zeros_like(mask), 2.0).any()
