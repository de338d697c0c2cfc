"""What a model gets right and wrong in each group of patients, at one threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from radwb.fail.evidence import Evidence, compared
from radwb.fail.groups import group_gaps
from radwb.fail.scored import all_scored
from radwb.identifiers import numbered
from radwb.probe import Scores
from radwb.stats import auroc, clustered_auroc, clustered_mean
from radwb.stats.sentence import Comparison
from radwb.stats.shares import share_gap

BAND_YEARS = 20
SHARES = ("sensitivity", "specificity", "false no finding", "Brier score", "overstated")
METRICS = ("AUROC", *SHARES)
# of a group's metric less the others': what does it harm
HARM = {"false no finding": "ahead", "Brier score": "ahead"}
CALIBRATION = ("Brier score", "overstated")


@dataclass(frozen=True, eq=False)
class GroupReport:
    """Each metric in each group of patients, and each group against the others.

    Attributes:
        table: by, group, metric, value, low, high (by patient), n, patients, note.
        gaps: (by, group, metric) -> Comparison of the group with all others of its
            kind; all of these are one family.
        chance: (by, metric) -> the gap that harms most, on average over shuffles that
            deal the names of groups to other patients.
    """

    table: pd.DataFrame
    gaps: dict[tuple[str, str, str], Comparison]
    chance: dict[tuple[str, str], float]

    def worst(self, by: str, metric: str) -> Comparison:
        """The gap of `by` that harms its group most.

        Of gaps that harm for sure if there are any, else of those with an interval over
        zero: a tiny group without an interval hides none of these.
        """
        gaps = [gap for key, gap in self.gaps.items() if key[::2] == (by, metric)]
        sure = [gap for gap in gaps if gap.verdict in harmful(metric)]
        unsure = [
            gap for gap in gaps if gap.verdict == "can't tell" and np.isfinite(gap.low)
        ]
        asked = sure or unsure or gaps
        harms = [harm(metric, gap.difference) for gap in asked]
        return asked[int(np.argmax(np.nan_to_num(harms, nan=-np.inf)))]

    def evidence(
        self, metrics: Sequence[str] = ("AUROC", "false no finding", "overstated")
    ) -> list[Evidence]:
        """For each kind of group and metric the gap that harms most, as evidence.

        >>> points = rw.fail.operating_points(scores)
        >>> report = rw.fail.group_report(scores, table, by=["sex"], threshold=points)
        >>> [row.kind for row in report.evidence()]
        ['group', 'group', 'calibration']
        """
        rows = []
        for by, metric in self.chance:
            if metric in metrics:
                rows.append(self._row(by, metric))
        return rows

    def _row(self, by, metric):
        gap = self.worst(by, metric)
        harms = harmful(metric)
        return compared(
            "calibration" if metric in CALIBRATION else "group",
            f"{metric} by {by}, the group that differs most to its harm",
            gap,
            harm=gap.verdict if gap.verdict in harms else harms[0],
            control=self.chance[by, metric],
        )


def harmful(metric: str) -> tuple[str, ...]:
    """The verdicts on a gap, group less others, that harm the group."""
    if metric == "overstated":  # too sure or not sure enough: both harm
        return "behind", "ahead"
    return (HARM.get(metric, "behind"),)


def harm(metric: str, difference: float) -> float:
    """How much a difference of this metric, group less others, harms the group."""
    if metric == "overstated":
        return abs(difference)
    return difference if HARM.get(metric) == "ahead" else -difference


def operating_points(scores: Scores, *, specificity: float = 0.9) -> dict[str, float]:
    """For each finding of yours the threshold that leaves so many controls in peace.

    >>> points = operating_points(scores, specificity=0.8)
    >>> list(points)
    ['Pleural Effusion', 'Pneumothorax']

    Take scores of patients on whom nothing else is judged. Above the threshold is
    called.

    Raises:
        ValueError: a finding without controls, a labelled film without a score, or the
            same score for every film.
    """
    points = {}
    for finding in scores.values:
        all_scored(scores, finding)
        values = scores.values[finding]
        controls = values[scores.truth[finding] == 0]
        if not len(controls):
            raise ValueError(
                f"expected controls to set a threshold for {finding} on, got none. "
                "Try films of more patients"
            )
        _differ(values, finding)
        points[finding] = float(np.quantile(controls, specificity, method="higher"))
    return points


def calibrated(scores: Scores, on: Scores) -> Scores:
    """Your scores as probabilities: a logistic curve a finding, fitted on others.

    >>> stated = rw.fail.calibrated(scores, scores)
    >>> bool(stated.values.max().max() <= 1)
    True

    Platt 1999. The order of the films stays, and so does each AUROC.

    Args:
        scores: any numbers, higher = more likely.
        on: of the same model for other patients, with both labels of each finding.
    """
    stated = {}
    for finding in scores.values:
        y = on.truth[finding].to_numpy(float)
        labelled = np.isin(y, (0, 1))
        _both(y[labelled], finding)
        s = on.values[[finding]].to_numpy(float)
        middle = s.mean()
        spread = s.std() or 1.0
        curve = LogisticRegression(C=1e6)
        curve.fit((s[labelled] - middle) / spread, y[labelled])
        ours = (scores.values[[finding]].to_numpy(float) - middle) / spread
        stated[finding] = curve.predict_proba(ours)[:, 1]
    values = pd.DataFrame(stated, index=scores.values.index)
    return Scores(values, scores.truth, scores.patient_id)


def group_report(
    scores: Scores,
    table: pd.DataFrame,
    *,
    by: Sequence[str | tuple[str, ...]] = ("sex", "age_years", "site", "view"),
    threshold: float | Mapping[str, float],
    finding: str | None = None,
    shuffles: int = 20,
) -> GroupReport:
    """What your model gets right and wrong in each group, each held against the others.

    >>> report = group_report(scores, table, by=["sex"], threshold=0.5)
    >>> report.table["metric"].unique().tolist()
    ['AUROC', 'sensitivity', 'specificity', 'false no finding', 'Brier score', \
'overstated']

    A false "no finding" is a film with any of the findings of `scores` in which none is
    called: the patient is sent home (Seyyed-Kalantari et al. 2021, doi
    10.1038/s41591-021-01595-0). Overstated is the mean of what was stated less what was
    true. A Brier score, like a share called, moves with the prevalence of a group. A
    group without an interval is one of few patients; its note says so.

    Args:
        scores: probabilities (`calibrated`) for the rows of `table`.
        table: has the columns of `by`.
        by: columns, or tuples of columns for their intersections; age_years goes in
            bands of 20 years.
        threshold: above it is called; one number, or one a finding.
        finding: which of several is judged; None = the first.
        shuffles: how often groups are dealt out anew, for `chance`.
    Raises:
        ValueError: rows don't pair, a column is missing or names no group, scores are
            no probabilities or the same for every film.
    """
    finding = finding or next(iter(scores.values))
    if len(table) != len(scores.values):
        raise ValueError(
            f"expected the {len(scores.values)} rows that were scored, "
            f"got a table of {len(table)}"
        )
    _differ(scores.values[finding], finding)
    films = film_measures(scores, finding, threshold)
    groups = {}
    for columns in by:
        columns = [columns] if isinstance(columns, str) else list(columns)
        groups[" and ".join(columns)] = group_names(table, columns)
    one = Scores(scores.values[[finding]], scores.truth[[finding]], scores.patient_id)
    family = len(METRICS) * sum(_gaps_among(names) for names in groups.values())
    rows = []
    gaps = {}
    chance = {}
    for kind, names in groups.items():
        rows += _rows(kind, names, one, films)
        for group in sorted(set(names) - {""}):
            of_group = gaps_to_others(one, films, names, group, family)
            gaps |= {(kind, group, metric): gap for metric, gap in of_group.items()}
        for metric, gap in _chance(names, one, films, shuffles).items():
            chance[kind, metric] = gap
    return GroupReport(pd.DataFrame(rows), gaps, chance)


def _gaps_among(names):
    """Of two groups the one's gap is the other's with its sign changed."""
    groups = names[names != ""].nunique()
    return 1 if groups == 2 else groups


def film_measures(scores: Scores, finding: str, threshold) -> pd.DataFrame:
    """(N, metrics) what each film adds to each share; NaN where it doesn't count."""
    values = scores.values
    low, high = values[finding].min(), values[finding].max()
    if low < 0 or high > 1:
        raise ValueError(
            f"expected probabilities, got scores from {low:.3g} to {high:.3g}. "
            "Try rw.fail.calibrated(scores, on)"
        )
    if not isinstance(threshold, Mapping):
        threshold = dict.fromkeys(values, threshold)
    called = values > pd.Series(threshold)[list(values)]
    y = scores.truth[finding]
    of_one = called[finding].astype(float)
    nothing_called = 1.0 - called.any(axis=1)
    gap = values[finding] - y
    films = {
        "sensitivity": of_one.where(y == 1),
        "specificity": (1 - of_one).where(y == 0),
        "false no finding": nothing_called.where((scores.truth == 1).any(axis=1)),
        "Brier score": (gap**2).where(y.isin((0, 1))),
        "overstated": gap.where(y.isin((0, 1))),
    }
    return pd.DataFrame(films).reset_index(drop=True)


def group_names(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """(N,) the group of each row, "" where one of the columns names none."""
    parts = []
    known = np.ones(len(table), bool)
    for column in columns:
        if column not in table:
            raise ValueError(
                f"expected a column {column!r} to group by, got {', '.join(table)}"
            )
        values = table[column].reset_index(drop=True)
        known &= (values.notna() & (values.astype(str) != "")).to_numpy()
        parts.append(_bands(values) if column == "age_years" else values.astype(str))
    if not known.any():
        raise ValueError(
            f"expected groups in {' and '.join(columns)}, got no row that names one"
        )
    joined = parts[0].str.cat(parts[1:], sep=", ")
    return joined.where(known, "")


def _bands(years):
    start = years // BAND_YEARS * BAND_YEARS
    return start.map(lambda low: f"{low:.0f} to {low + BAND_YEARS - 1:.0f} years")


def limits_of(metric: str) -> tuple[float, float]:
    """What a film can add to this metric at least and at most."""
    return (-1, 1) if metric == "overstated" else (0, 1)


def _rows(kind, names, one, films):
    rows = []
    (finding,) = one.values
    for group in sorted(set(names) - {""}):
        inside = (names == group).to_numpy()
        row = clustered_auroc(
            one.truth[finding][inside],
            one.values[finding][inside],
            one.patient_id[inside],
        )
        cells = {"AUROC": row | {"value": row["auroc"]}}
        for metric in SHARES:
            cells[metric] = _share(metric, films, inside, one.patient_id)
        for metric, cell in cells.items():
            kept = {name: cell[name] for name in ("value", *CELL)}
            rows.append({"by": kind, "group": group, "metric": metric, **kept})
    return rows


CELL = ("low", "high", "n", "patients", "note")


def _share(metric, films, inside, patients):
    """A metric's mean over films, its interval kept within what it can be."""
    low, high = limits_of(metric)
    counted = inside & films[metric].notna().to_numpy()
    unit = (films[metric][counted] - low) / (high - low)
    row = clustered_mean(unit, patients[counted], share=True)
    for name, end in (("value", "mean"), ("low", "low"), ("high", "high")):
        row[name] = low + (high - low) * row[end]
    return row


def gaps_to_others(
    one: Scores, films: pd.DataFrame, groups: pd.Series, group: str, family: int
) -> dict[str, Comparison]:
    """Each metric in a group, less the same in all other groups, by patient.

    Args:
        one: scores of one finding.
        films: of `film_measures`, a column a metric.
        groups: (N,) name of each film's group, "" for none.
        group: the one.
        family: number of gaps that are asked for together.
    """
    sides = groups.where((groups == group) | (groups == ""), "the others")
    of_auroc = group_gaps(one, sides, family=family)
    gaps = {"AUROC": next(gap for gap in of_auroc if gap.names[0] == group)}
    for metric, values in films.items():
        counts = values.notna()
        ours = (counts & (sides == group)).to_numpy()
        theirs = (counts & (sides == "the others")).to_numpy()
        gaps[metric] = share_gap(
            values[ours],
            values[theirs],
            (one.patient_id[ours], one.patient_id[theirs]),
            names=(group, "the others"),
            what=metric,
            family=family,
            limits=limits_of(metric),
        )
    return gaps


def _chance(names, one, films, shuffles):
    """The worst gap of each metric where groups are dealt to other patients."""
    row, _ = numbered(one.patient_id)
    rng = np.random.default_rng(0)
    first = names.groupby(row).first()  # (P,)
    draws = []
    for _ in range(shuffles):
        dealt = pd.Series(rng.permutation(first), first.index)[row].to_numpy()
        draws.append(_worst_gaps(dealt, one, films))
    return pd.DataFrame(draws, columns=METRICS).mean().to_dict()


def _worst_gaps(groups, one, films):
    """{metric: the gap to the others that harms a group most}."""
    (finding,) = one.values
    gaps = {metric: [] for metric in METRICS}
    for group in set(groups) - {""}:
        sides = groups == group, (groups != group) & (groups != "")
        of_sides = []
        for side in sides:
            means = films[side].mean()
            pair = one.truth[finding][side], one.values[finding][side]
            means["AUROC"] = auroc(*pair) if _has_both(pair[0]) else np.nan
            of_sides.append(means)
        for metric, gap in (of_sides[0] - of_sides[1]).items():
            gaps[metric].append(gap)
    worst = {}
    for metric, values in gaps.items():
        finite = [gap for gap in values if np.isfinite(gap)]
        worst[metric] = max(finite, key=lambda gap: harm(metric, gap), default=np.nan)
    worst["overstated"] = abs(worst["overstated"])  # the signs would cancel out
    return worst


def _has_both(y):
    return bool((y == 1).any() and (y == 0).any())


def _both(y, finding):
    if not _has_both(y):
        counts = int((y == 1).sum()), int((y == 0).sum())
        raise ValueError(
            f"expected films with and without {finding}, got {counts[0]} and "
            f"{counts[1]}. Try films of more patients"
        )


def _differ(values, finding):
    if values.nunique() < 2:
        raise ValueError(
            f"expected scores for {finding} that differ, got {values.iloc[0]:.3g} "
            f"for each of {len(values)} films: no threshold parts them"
        )
