"""Films in a drawn look: what changes, what each step does, and what stays true."""

import numpy as np
import pytest
import torch
from scipy import ndimage

import radwb as rw
from radwb.simulate import Dials, display, looks, physics, stored, worn
from radwb.simulate.anatomy import FIELD_MM
from radwb.simulate.body import Body
from radwb.simulate.film import film
from radwb.simulate.measures import slope, spectrum
from radwb.simulate.plant import plant
from radwb.simulate.project import sample
from radwb.stats import auroc

SIZE = 96
MARGIN = 12


@pytest.fixture(scope="module")
def anatomy():
    return rw.simulate.default_anatomy(FIELD_MM / SIZE)


@pytest.fixture(scope="module")
def mass(anatomy):
    rng = np.random.default_rng(0)
    return rw.simulate.draw("Lung Lesion", anatomy, rng, side="right", severity=0.9)


@pytest.fixture(scope="module")
def rays(anatomy):
    return sample(anatomy, Body(breast_mm=55.0), "PA", SIZE)


@pytest.fixture(scope="module")
def texture():
    """A film of noise that falls off as anatomy's does."""
    film = stored.grain(128, 1.5, np.random.default_rng(0))
    return 0.5 + 0.12 * film


def films(share, **more):
    how = dict(seed=2, size=64, dials=Dials(looks=share), **more)
    return list(rw.simulate.stream(24, **how))


def test_without_looks_a_cohort_keeps_its_name_and_with_them_it_has_another():
    assert "looks" not in repr(Dials())
    assert "looks=0.5" in repr(Dials(looks=0.5))
    with pytest.raises(ValueError, match="chances from 0 to 1"):
        Dials(looks=1.5)


def test_only_films_with_a_look_differ():
    """Labels, words, patients and all other films stay as they are, byte for byte."""
    plain, half, whole = map(films, (0.0, 0.5, 1.0))
    kinds = []
    for (before, row), (mixed, same), (after, same_too) in zip(
        plain, half, whole, strict=True
    ):
        np.testing.assert_equal(same, row)
        np.testing.assert_equal(same_too, row)
        assert not np.array_equal(before.pixels, after.pixels)
        is_plain = np.array_equal(mixed.pixels, before.pixels)
        assert is_plain or np.array_equal(mixed.pixels, after.pixels)
        kinds.append(is_plain)
    assert 5 < sum(kinds) < 19


def test_a_look_is_the_same_again_whatever_the_workers():
    one = films(1.0, workers=1)
    two = films(1.0, workers=2)
    for (a, _), (b, _) in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
        assert a.pixels.dtype == np.float32
        assert a.pixels.min() >= 0
        assert a.pixels.max() <= 1


def test_truth_lies_where_the_finding_is(anatomy, mass):
    """Two films of one look, one with the finding: they differ within its mask."""
    found = []
    for look in range(9):
        how = dict(size=SIZE, anatomy=anatomy, look=look)
        sick = rw.simulate.render([mass], **how)
        well = rw.simulate.render([], **how)
        mask = sick.truth["Lung Lesion"]
        change = np.abs(sick.pixels - well.pixels)
        found.append(auroc(mask.ravel().astype(int), change.ravel()))
        assert mask.any()
        assert change[mask].mean() > 0.05 * well.pixels.std()
    assert np.median(found) > 0.95
    assert min(found) > 0.8


def test_masks_move_with_the_film(anatomy, mass):
    how = dict(size=SIZE, anatomy=anatomy)
    masks = [rw.simulate.render([mass], look=k, **how).truth for k in range(6)]
    middles = [ndimage.center_of_mass(truth["Lung Lesion"]) for truth in masks]
    areas = [truth["Lung Lesion"].sum() for truth in masks]
    assert np.ptp(middles, axis=0).min() > 0.05 * SIZE
    assert max(areas) > 1.5 * min(areas)


def test_the_lungs_stay_on_the_film(anatomy, rays):
    """However a film is framed and collimated, hardly any lung is lost."""
    whole = rays.organs["Lungs"].sum() * rays.pixel_mm**2
    kept = []
    for look in range(60):
        how = dict(size=SIZE, anatomy=anatomy, organs=True, look=look)
        film = rw.simulate.render([], body=rays.body, **how)
        kept.append(film.truth["Lungs"].sum() * film.spacing_mm[0] ** 2 / whole)
    assert min(kept) > 0.8
    assert np.mean(kept) > 0.93


def test_a_lateral_film_has_a_look_too(anatomy):
    lateral = rw.simulate.default_anatomy(FIELD_MM / 64, 0)
    film = rw.simulate.render([], view="LATERAL", size=64, anatomy=lateral, look=3)
    assert film.pixels.shape == (64, 64)
    assert film.pixels.std() > 0.05


@pytest.mark.parametrize("step", worn.STEPS, ids=lambda step: step.__name__)
def test_what_is_worn_lies_outside_the_lungs(rays, step):
    """But for clothes' metal in the midline, where the lungs meet before the heart."""
    place = worn._place(rays, MARGIN)
    before = looks._widened(rays.paths, MARGIN)
    lungs = np.pad(rays.lung_mm.numpy() > 40, MARGIN)
    midline = np.abs(place.x.numpy()) < 25
    changed = np.zeros(place.shape, bool)
    for seed in range(20):
        after = worn.put_on(step, before, place, np.random.default_rng(seed))
        changed |= ((after.stack() - before.stack()).abs() > 1e-3).any(0).numpy()
    assert changed.any()
    assert (changed & lungs & ~midline).sum() <= 0.01 * lungs.sum()


def test_shoulders_leave_air_above_them_and_the_neck(rays):
    place = worn._place(rays, MARGIN)
    paths = looks._widened(rays.paths, MARGIN)
    shown = worn.put_on(worn._shoulders, paths, place, np.random.default_rng(0)).soft
    is_above = place.y < -100
    aside = is_above & (place.x.abs() > 90)
    neck = is_above & (place.x.abs() < 20)
    assert float(shown[aside].max()) < 0.01
    assert float(shown[neck].mean()) > 3


def test_arms_hold_a_bone_and_gas_lets_rays_through(rays):
    place = worn._place(rays, MARGIN)
    paths = looks._widened(rays.paths, MARGIN)
    arms = worn.put_on(worn._arms, paths, place, np.random.default_rng(1))
    added = (arms.bone - paths.bone).numpy()
    beside = np.abs(place.x.numpy()) > place.half
    assert added.max() > 0.3
    assert (added[np.broadcast_to(~beside, added.shape)] == 0).all()
    gas = worn.put_on(worn._gas, paths, place, np.random.default_rng(1))
    less = (paths.soft - gas.soft).numpy()
    assert less.min() >= 0
    assert less.max() > 1
    assert np.nonzero(less)[0].min() >= np.nonzero(place.y.numpy() > 0)[0].min()


def test_breasts_are_those_of_the_patient(rays, anatomy):
    flat = sample(anatomy, Body(), "PA", SIZE)
    for body, is_female in ((rays, True), (flat, False)):
        paths = worn._with_breasts(body.paths, body, np.random.default_rng(0))
        assert bool((paths.soft > body.paths.soft).any()) is is_female


def test_bone_is_sharper_and_no_mass_is_made(rays):
    bone = rays.paths.bone
    crisp = worn._crisp(bone, rays.pixel_mm, np.random.default_rng(4))
    fine = [spectrum(b.numpy()[None])[0, 16:].mean() for b in (bone, crisp)]
    assert fine[1] > fine[0] + 2
    assert 0.85 < float(crisp.sum() / bone.sum()) < 1.45


def test_a_portable_film_scatters_more():
    site = display.SITES["A"]
    more = []
    for look in range(20):
        bed, wall = (looks.detector(site, view, look) for view in ("AP", "PA"))
        assert bed.photons == wall.photons
        more.append(bed.scatter / wall.scatter)
    assert np.allclose(more, 1.8)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_grain_has_the_spectrum_that_was_asked_for(exponent):
    rng = np.random.default_rng(0)
    noise = np.stack([stored.grain(128, exponent, rng) for _ in range(8)])
    assert slope(spectrum(noise)).mean() == pytest.approx(-2 * exponent, abs=0.15)
    assert noise.std() == pytest.approx(1, abs=0.01)


def test_a_film_of_few_rows_has_nothing_finer(texture):
    small = stored.resampled(texture, 32)
    lost = spectrum(texture[None])[0] - spectrum(small[None])[0]
    assert lost[:8].max() < 1  # dB
    assert lost[32:].min() > 10
    assert stored.resampled(texture, 128) is texture


def test_jpeg_leaves_blocks_of_eight_and_less_at_a_better_quality(texture):
    errors = []
    for quality in (25, 90):
        film = stored.jpeg(texture, quality)
        steps = np.abs(np.diff(film, axis=1)).mean(0)
        at_blocks = steps[7::8].mean() / np.delete(steps, np.s_[7::8]).mean()
        errors.append((np.abs(film - texture).mean(), at_blocks))
    assert errors[0][0] > 2 * errors[1][0]
    assert errors[0][1] > errors[1][1] + 0.1


def test_the_curve_and_equalisation_keep_the_order_of_greys():
    x = np.linspace(0, 1, 101)
    curve = looks._curved(x, 4.0, 0.4)
    assert curve[[0, -1]] == pytest.approx([0, 1])
    assert (np.diff(curve) > 0).all()
    film = np.random.default_rng(0).random((64, 64)) ** 1.2
    flat = looks._equalised(film, 1.0)
    counts = np.histogram(flat, 8, (0, 1))[0]
    assert counts.max() < 1.3 * counts.min()
    order = np.argsort(film.ravel())
    assert (np.diff(flat.ravel()[order]) >= 0).all()


def test_no_film_is_flat_and_exposures_differ(rays):
    signal = physics.line_integral(rays.paths).numpy()
    films = [looks._toned(signal, np.random.default_rng(k)) for k in range(40)]
    spreads = [looks._middle(film).std() for film in films]
    means = [film.mean() for film in films]
    assert min(spreads) > 0.8 * looks.TONE["spread"][0]
    assert np.ptp(means) > 0.25
    assert all(film.min() >= 0 and film.max() <= 1 for film in films)


def test_a_detector_is_lit_unevenly_and_some_show_a_grid():
    flat = np.zeros((128, 128))
    unlike = [looks._uneven(flat, look) for look in range(60)]
    ends = [film[:, -1].mean() - film[:, 0].mean() for film in unlike]
    assert 0.05 < np.std(ends) < 0.25
    # a plane has no power at high frequencies, a grid has
    second = [np.abs(np.diff(film, 2, axis=k)).max() for film in unlike for k in (0, 1)]
    grids = np.reshape(np.array(second) > 1e-4, (60, 2))
    assert 2 < grids.any(1).sum() < 20
    assert not grids.all(1).any()


def test_borders_are_not_exposed():
    borders = (10, 4, 0, 20)
    film = np.full((64, 64), 0.5)
    greys = []
    for seed in range(40):
        shut, seen = stored.shut(film, borders, np.random.default_rng(seed))
        assert not seen[:6].any()
        assert not seen[:, -14:].any()
        assert seen[20:50, 6:36].all()
        assert (shut[seen & (shut == 0.5)] == 0.5).all()
        greys.append(float(shut[0, -1]))
    assert {round(grey, 2) for grey in greys} == {0.0, 0.03, 0.95}


def test_a_marker_is_true_to_its_side(monkeypatch):
    """R is stamped on the patient's right, which is the image's left."""
    stamped = []

    def stamp(pixels, borders, text, row, side, how, rng):
        stamped.append((text.strip("()"), side))
        return pixels

    monkeypatch.setattr(stored, "_stamped", stamp)
    borders = (0, 0, 0, 0)
    film = np.zeros((64, 64))
    for seed in range(60):
        for marker in (True, False):
            rng = np.random.default_rng(seed)
            stored.lettered(film, borders, "AP", marker, rng)
    sides = {text: side for text, side in stamped if text in ("R", "RT", "L", "LT")}
    assert sides == {"R": "left", "RT": "left", "L": "right", "LT": "right"}
    n_markers = sum(text in sides for text, _ in stamped)
    assert n_markers == 60  # none where the film is to have none
    notes = {text for text, _ in stamped} - set(sides)
    assert notes & set(stored.TEXTS["AP"])
    assert not notes & {*stored.TEXTS["PA"], *stored.TEXTS["LATERAL"]}


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_word_stands_at_its_rim(side):
    film = np.zeros((96, 96))
    how = {"height": 0.1, "inset": 0.02, "grey": 0.9}
    rng = np.random.default_rng(0)
    marked = stored._stamped(film, (0, 0, 5, 5), "R", 0.5, side, how, rng)
    columns = np.flatnonzero(marked.any(0))
    near = columns - 5 if side == "left" else 90 - columns
    assert 0 <= near.min() <= 4
    assert near.max() < 16


def test_a_film_without_a_marker_gets_none(rays, monkeypatch):
    """The dial `marker` holds in every look."""
    texts = []

    def stamp(pixels, borders, text, row, side, how, rng):
        texts.append(str(text).strip("()"))
        return pixels

    monkeypatch.setattr(stored, "_stamped", stamp)
    for marker, n in ((True, 20), (False, 0)):
        texts.clear()
        for look in range(20):
            rng = np.random.default_rng(0)
            film(rays, plant(rays, []), "A", rng, marker=marker, look=look)
        assert sum(text in ("R", "RT", "L", "LT") for text in texts) == n


def test_what_the_collimator_hides_is_in_no_mask(anatomy, mass, monkeypatch):
    borders = np.array([SIZE // 2, 0, 0, 0])
    monkeypatch.setattr(looks, "_borders", lambda *how: borders)
    how = dict(size=SIZE, anatomy=anatomy, organs=True)
    for look in range(4):
        truth = rw.simulate.render([mass], look=look, **how).truth
        assert truth["Lungs"][SIZE // 2 + 4 :].any()
        assert not truth["Lungs"][: SIZE // 2 - 4].any()


def test_letters_change_the_rim_alone():
    film = np.full((128, 128), 0.3)
    change = np.zeros(film.shape, bool)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        marked = stored.lettered(film, (8, 8, 8, 8), "PA", True, rng)
        change |= marked != film
    assert change.any()
    assert not change[:, 48:80].any()
    assert not change[:, :7].any()
    assert not torch.from_numpy(change)[:, -7:].any()
