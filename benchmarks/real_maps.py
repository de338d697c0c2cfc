"""Maps on real films: drawn opacities, and the lungs' zones with a grade each.

Each method asks one pair of phrases. Beside it: the lungs as they are drawn, the
middle, edges, brightness, noise, the method's map of another patient, where opacities
lie on virtual films and where they were drawn on the tuning half's real ones.
"""

import warnings
from functools import partial

import numpy as np
import pandas as pd
from real_halves import ZONES, films_of, in_half
from real_kept import digest, films_digest, kept
from scipy.stats import spearmanr

import radwb as rw
from radwb.attend.controls import Compared
from radwb.attend.readers import lung_zones, score_each_zone
from radwb.attend.score import next_of_another, score_each

OPACITY = ("there is a lung opacity", "no acute cardiopulmonary abnormality")
METHODS = ("relevance", "gradcam", "similarity")
WITHIN = "relevance within the lungs"  # the map times the lungs' mask
LESION_SCORES = ("energy", "auprc")
ZONE_SCORES = ("rank of means", "rank of energies")
VIRTUAL_FILMS = 200
SIDE = 64  # of a mean mask


def maps(model, which, folder) -> list[dict]:
    """Rows of drawn opacities and of graded zones on one half's films."""
    rows = []
    for name, films, judge in (
        ("covid-masks", drawn_films(which), judged_by_lesion),
        ("covid-text", graded_films(which), judged_by_zone),
    ):
        judge = partial(judge, films)
        blind = kept_points(folder, films, judge, which, name)
        rows += compared(model, films, judge, blind, name)
    return rows


def drawn_films(which) -> pd.DataFrame:
    """Films with a drawn opacity and drawn lungs, and their scans."""
    table = in_half(rw.data.real("covid-masks"), which)
    table["scan"] = [rw.data.scan_of(row) for _, row in table.iterrows()]
    truths = [scan.truth for scan in table["scan"]]
    both = [{"Lung Opacity", "lungs"} <= set(truth) for truth in truths]
    return table[both].reset_index(drop=True)


def graded_films(which) -> pd.DataFrame:
    """Frontal films with lungs and six grades that aren't all the same."""
    table = films_of("covid-text", which)
    differ = table[ZONES].nunique(axis=1) > 1  # else no zone is the worst
    table = table[differ & table["truth_path"].notna()].reset_index(drop=True)
    table["scan"] = [rw.data.scan_of(row) for _, row in table.iterrows()]
    return table


def judged_by_lesion(films, maps) -> pd.DataFrame:
    """Energy inside the drawn opacity, and AUPRC over pixels, one row a film."""
    masks = [scan.truth["Lung Opacity"] for scan in films["scan"]]
    return score_each(maps, masks, scores=LESION_SCORES)


def judged_by_zone(films, maps) -> pd.DataFrame:
    """How a map's mean in a zone, and its sum there, follow the zone's grade."""
    lungs = [scan.truth["lungs"] for scan in films["scan"]]
    grades = films[ZONES].to_numpy(float)
    means = score_each_zone(maps, lungs, grades)["rank"]
    sums = map(zone_rank, maps, lungs, grades)
    return pd.DataFrame(dict(zip(ZONE_SCORES, (means, list(sums)), strict=True)))


def zone_rank(map, lungs, grades) -> float:
    """Spearman's correlation of the map's sum in each zone with its grade."""
    values = np.asarray(getattr(map, "values", map), dtype=float)
    energies = [values[zone].sum() for zone in lung_zones(lungs)]
    if np.ptp(energies) <= 1e-6 * np.abs(energies).max():
        return 0.0  # a constant has no rank
    return float(spearmanr(energies, grades).statistic)


def kept_points(folder, films, judge, which, name) -> dict[str, pd.DataFrame]:
    """score -> (films, controls), of maps that need no model; computed once."""
    file = f"maps-{name}-{digest(films_digest(films, []), which)}"

    def make():
        arrays = {}
        for control, its_maps in blind_maps(films, which, folder).items():
            points = judge(its_maps)
            arrays |= {f"{score}|{control}": points[score] for score in points}
        return arrays

    points = {}
    for key, values in kept(folder, file, make).items():
        score, control = key.split("|")
        points.setdefault(score, {})[control] = values
    return {score: pd.DataFrame(of_score) for score, of_score in points.items()}


def blind_maps(films, which, folder) -> dict[str, list[np.ndarray]]:
    """The controls of these films, the lungs' mask first."""
    scans = list(films["scan"])
    lungs = [scan.truth["lungs"].astype(np.float32) for scan in scans]
    usual = virtual_mask(folder)
    controls = {"lungs": lungs}
    controls |= rw.attend.control_maps(scans, training_mask=usual)
    controls["virtual mean mask"] = controls.pop("training mask")
    controls["drawn mean mask"] = drawn_masks(films, which)
    return controls


def virtual_mask(folder) -> np.ndarray:
    """(SIDE, SIDE) where a Lung Opacity lies on virtual training films."""

    def make():
        table = rw.simulate.cohort(n=VIRTUAL_FILMS, seed=0)
        return {"mask": rw.attend.mean_mask(table, "Lung Opacity", size=SIDE)}

    return kept(folder, f"virtual-mask-{digest(VIRTUAL_FILMS, SIDE)}", make)["mask"]


def drawn_masks(films, which) -> list[np.ndarray]:
    """For each film where opacities were drawn on the tuning half's other patients."""
    drawn = drawn_films("tune")
    squares = []
    for scan in drawn["scan"]:
        mask = scan.truth["Lung Opacity"].astype(np.float32)
        squares.append(rw.data.to_input(mask, SIDE, fit="squash"))
    squares = np.stack(squares)  # (M, SIDE, SIDE)
    laid_over = []
    for patient, scan in zip(films["patient_id"], films["scan"], strict=True):
        others = (drawn["patient_id"] != patient).to_numpy()
        mean = squares[others].mean(axis=0)
        laid_over.append(rw.data.to_scan(mean, scan.shape, fit="squash"))
    return laid_over


def compared(model, films, judge, blind, name) -> list[dict]:
    """Rows of each method and control, and of relevance minus each control."""
    points = model_points(model, films, judge)
    patients = films["patient_id"].to_numpy()
    rows = []
    for score, of_controls in blind.items():
        table = points[score].join(of_controls)
        ours = [*METHODS, WITHIN]
        about = {"methods": ours, "what": short(score), "family": len(ours)}
        result = Compared.of(table, patients, **about)
        about = {"set": name, "measure": f"maps, {score}", "finding": "Lung Opacity"}
        about |= {"averaged": False, "note": f"{len(films)} films"}
        rows += [row | about for row in rows_of(result)]
    return rows


def short(score):
    return "rank" if score in ZONE_SCORES else score


def model_points(model, films, judge) -> dict[str, pd.DataFrame]:
    """score -> (films, methods and each one's map of another patient)."""
    scans = list(films["scan"])
    patients = films["patient_id"].tolist()
    columns = {}
    for method in METHODS:
        values = maps_of(model, scans, method)
        columns[method] = judge(values)
        others = other_patients(values, patients)
        columns[f"{method}, another patient's"] = judge(others)
        if method == "relevance":
            columns[WITHIN] = judge(within_lungs(values, scans))
    scores = next(iter(columns.values())).columns
    return {
        score: pd.DataFrame({who: points[score] for who, points in columns.items()})
        for score in scores
    }


def maps_of(model, scans, method) -> list[np.ndarray]:
    with warnings.catch_warnings():  # a map that is zero everywhere scores as chance
        warnings.filterwarnings("ignore", "no positive evidence")
        made = rw.attend.attention_maps(model, scans, method=method, targets=OPACITY)
    return [each.values for each in made]


def other_patients(values, patients):
    """For each film the map of the next film of another patient, stretched over it."""
    others = []
    for i, own in enumerate(values):
        other = values[next_of_another(patients, i)]
        others.append(rw.data.to_scan(other, own.shape, fit="squash"))
    return others


def within_lungs(values, scans):
    return [
        each * scan.truth["lungs"] for each, scan in zip(values, scans, strict=True)
    ]


def rows_of(result) -> list[dict]:
    """Means with intervals by patient, and the methods' differences to each control."""
    rows = []
    for who, row in result.table.iterrows():
        counts = {"positive_patients": row["patients"], "patients": row["patients"]}
        ends = {"value": row["mean"], "low": row["low"], "high": row["high"]}
        rows.append({"who": who} | ends | counts)
    counts = {key: len(set(result.groups)) for key in ("positive_patients", "patients")}
    for method, of_controls in result.comparisons.items():
        for control, gap in of_controls.items():
            ends = {"value": gap.difference, "low": gap.low, "high": gap.high}
            rows.append({"who": f"{method} minus {control}"} | ends | counts)
    return rows
