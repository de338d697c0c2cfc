"""What help does to readers: their AUROC, and whom they follow when it is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb.fail.evidence import Evidence, compared, measured
from radwb.identifiers import numbered
from radwb.stats import clustered_auroc, clustered_mean, compare_auroc
from radwb.stats.pull import NO_INTERVAL, Pull
from radwb.stats.sentence import Comparison
from radwb.stats.two_way import interval, obuchowski_rockette, of_readers, rate_gap

ALONE, HELPED = "alone", "with help"
COLUMNS = ("reader", "case", "arm", "confidence", "answer", "advice")
FAMILY = 3  # comparisons that are made together
# what a reading says: in words, and of each number whether it is such
GIVEN = {
    "confidence": ("a number", np.isfinite),
    "answer": ("1 or 0", lambda answers: answers.isin((0, 1))),
    "advice": ("a number from 0 to 1", lambda advice: advice.between(0, 1)),
}
# what a reader may do with advice, by whether the first answer and the advice are right
SWITCHES = {
    "to wrong advice": (True, False),
    "to right advice": (False, True),
    "away from right advice": (True, True),
    "away from wrong advice": (False, False),
}


def planted_advice(
    truth: np.ndarray | pd.Series, wrong: float = 0.25, *, seed: int = 0
) -> np.ndarray:
    """Advice of 1 and 0 that is wrong on a share of your films that you choose.

    >>> truth = [1] * 8 + [0] * 12
    >>> (planted_advice(truth) != truth).sum()
    np.int64(5)

    It is wrong on the same share of the films with and without the finding, so that
    a reader can't tell wrong advice by what it says.

    Args:
        truth: (N,) 1 and 0.
        wrong: share of the films.
        seed: of the draw.
    Returns:
        (N,) 1 and 0.
    Raises:
        ValueError: another label than 1 and 0, or no share.
    """
    truth = np.asarray(truth, dtype=float)
    if not np.isin(truth, (0, 1)).all() or not 0 <= wrong <= 1:
        raise ValueError(
            "expected truths of 1 and 0 and a share of wrong advice from 0 to 1; got "
            f"{sorted(set(truth.tolist()))[:5]} and {wrong}. "
            "Try the films whose label is 1 or 0"
        )
    rng = np.random.default_rng(seed)
    advice = truth.astype(int)
    for label in (0, 1):
        films = np.flatnonzero(truth == label)
        number = round(wrong * len(films))
        turned = rng.choice(films, number, replace=False)
        advice[turned] = 1 - label
    return advice


@dataclass(frozen=True, eq=False)
class ReadingEffect:
    """What help did to readers.

    Attributes:
        auroc: a row a reader and arm, as `rw.stats.clustered_auroc` has it, with the
            median `seconds` of a reading.
        help: the mean AUROC with help less that alone.
        switches: a row for each of `SWITCHES`: share of the readings that went there,
            as `rw.stats.clustered_mean` has it, of all readers together.
        followed: share that went over to wrong advice, less the share that left right
            advice: what a second look changes by itself.
        told_apart: share that went over to right advice, less that to wrong advice.
        pairs: a row a reader and case, both arms beside each other.
    """

    auroc: pd.DataFrame
    help: Comparison
    switches: pd.DataFrame
    followed: Comparison
    told_apart: Comparison
    pairs: pd.DataFrame

    def evidence(self) -> list[Evidence]:
        """Rows of the evidence card: worse with help, following, telling apart."""
        to_wrong = self.switches.iloc[0]
        tried = "the model's advice, partly planted wrong"
        control = self.switches["mean"].iloc[2]
        over = "share of right answers that went over to wrong advice"
        return [
            compared("readers", f"reading with {tried}", self.help),
            compared("readers", tried, self.followed, harm="ahead"),
            compared(
                "readers", f"telling right from wrong in {tried}", self.told_apart
            ),
            measured("readers", tried, over, to_wrong, value="mean", control=control),
        ]


def reading_effect(
    readings: pd.DataFrame,
    truth: Mapping | pd.Series,
    *,
    patients: Mapping | pd.Series | None = None,
) -> ReadingEffect:
    """How your readers did with the model's help, against themselves without it.

    >>> cases = [f"film {n}" for n in range(40)]
    >>> truth = dict(zip(cases, np.arange(40) % 2))
    >>> alone = pd.DataFrame({"case": cases * 2, "reader": ["A"] * 40 + ["B"] * 40})
    >>> alone["confidence"] = np.arange(80) * 37 % 101
    >>> alone["answer"] = (alone["confidence"] > 50).astype(int)
    >>> alone["advice"] = alone["case"].map(truth)
    >>> helped = alone.assign(answer=alone["advice"], arm="with help")
    >>> readings = pd.concat([alone.assign(arm="alone"), helped])
    >>> reading_effect(readings, truth).switches["mean"].round(2).tolist()
    [nan, 1.0, 0.0, nan]

    Every comparison is of the same reader and the same case. Its interval holds for
    other readers and other patients like these, since both are drawn by chance:
    Obuchowski & Rockette 1995 with the degrees of freedom of Hillis 2007 (doi
    10.1002/sim.2532) for the AUROC, for shares the two-way clustered variance. Of one
    reader alone it is by patient, and says so.

    Args:
        readings: reader, case, arm ("alone" or "with help"), confidence (higher = more
            likely there), answer (1 = there, 0 = not) and, of those with help, advice
            (the same, or a probability), as `rw.show.reading_study` writes them.
        truth: 1 or 0 by case.
        patients: patient by case; None = each case is a patient's only one. Without
            that of each case there is no interval.
    Raises:
        ValueError: a column is missing, or a reader, confidence, answer or advice; a
            column `finding` has several; nothing is paired, a case has no truth, there
            is one case, or cases are of one kind.
    """
    pairs = _paired(readings, truth, patients)
    moves = {name: _moves(pairs, *kind) for name, kind in SWITCHES.items()}
    to_wrong, to_right, by_itself, _ = moves.values()
    wrong, right = "wrong advice", "right advice"
    return ReadingEffect(
        auroc=_aurocs(pairs),
        help=_help(pairs),
        switches=_shares(moves),
        followed=rate_gap(
            to_wrong,
            by_itself,
            names=(wrong, right),
            what="share of right answers given up",
            family=FAMILY,
        ),
        told_apart=rate_gap(
            to_right,
            to_wrong,
            names=(right, wrong),
            what="share of contradicted answers given up",
            family=FAMILY,
        ),
        pairs=pairs,
    )


def _paired(readings, truth, patients):
    """A row a reader and case that was read in both arms."""
    missing = [column for column in COLUMNS if column not in readings]
    if missing:
        raise ValueError(
            f"expected readings with the columns {', '.join(COLUMNS)}; {missing} "
            "are missing. Try the CSV that rw.show.reading_study wrote"
        )
    findings = readings.get("finding", pd.Series()).unique()
    if len(findings) > 1:
        raise ValueError(
            f"expected readings of one finding, got {len(findings)}: "
            f"{', '.join(map(str, findings[:5]))}. "
            f"Try readings[readings['finding'] == {findings[0]!r}]"
        )
    if "seconds" not in readings:
        readings = readings.assign(seconds=np.nan)
    keys = ["reader", "case"]
    values = ["confidence", "answer", "advice", "seconds"]
    parts = []
    for arm in (ALONE, HELPED):
        part = readings.loc[readings["arm"] == arm, keys + values]
        parts.append(part.drop_duplicates(keys, keep="last"))
    pairs = parts[0].merge(parts[1], on=keys, suffixes=(f" {ALONE}", f" {HELPED}"))
    pairs["truth"] = pairs["case"].map(dict(truth))
    pairs["patient"] = pairs["case"]
    if patients is not None:
        pairs["patient"] = pairs["case"].map(dict(patients))
    return _sound(pairs)


def _sound(pairs):
    """The pairs, if anything can be said of them."""
    unknown = ~pairs["truth"].isin((0, 1))
    if unknown.any():
        raise ValueError(
            f"expected a truth of 1 or 0 for each case, got none for "
            f"{pairs.loc[unknown, 'case'].nunique()}, such as "
            f"{pairs.loc[unknown, 'case'].iloc[0]!r}"
        )
    kinds = pairs.groupby("truth")["case"].nunique()
    if len(kinds) < 2:
        raise ValueError(
            f"expected cases with and without the finding that a reader read {ALONE} "
            f"and {HELPED}, got {int(kinds.sum())} of one kind. Try more cases: five "
            "of each kind give an interval"
        )
    return _given(pairs)


def _given(pairs):
    """The pairs, if each reading says who read and what is counted."""
    nobody = numbered(pairs["reader"])[0] < 0
    _refuse(nobody, "a name", "reader", pairs)
    for column, (rule, is_sound) in GIVEN.items():
        for arm in (ALONE, HELPED):
            if (column, arm) == ("advice", ALONE):  # nobody was advised
                continue
            name = f"{column} {arm}"
            numbers = pd.to_numeric(pairs[name], errors="coerce")
            _refuse(~is_sound(numbers.astype(float)), rule, name, pairs)
            pairs[name] = numbers
    return pairs


def _refuse(wrong, rule, column, pairs):
    """An error where a reading is wrong."""
    if wrong.any():
        first = pairs[wrong].iloc[0]
        raise ValueError(
            f"expected {rule} as {column!r} of each reading, got something else in "
            f"{wrong.sum()} of {len(pairs)}, such as {first[column]} for case "
            f"{first['case']!r}. Try without these readings"
        )


def _aurocs(pairs):
    """A row a reader and arm."""
    rows = []
    for reader, own in pairs.groupby("reader"):
        for arm in (ALONE, HELPED):
            confidence = own[f"confidence {arm}"]
            row = clustered_auroc(own["truth"], confidence, own["patient"])
            seconds = own[f"seconds {arm}"].median()
            rows.append({"reader": reader, "arm": arm, **row, "seconds": seconds})
    return pd.DataFrame(rows)


def _help(pairs):
    """The mean AUROC with help against alone, other readers and patients in mind."""
    readers = pairs["reader"].unique()
    names = (HELPED, ALONE)
    truth = pairs["truth"]
    if len(readers) == 1:
        values = [pairs[f"confidence {arm}"] for arm in names]
        one = compare_auroc(
            truth, *values, pairs["patient"], names=names, family=FAMILY
        )
        ends = one.low, one.high, one.p
        return of_readers(names, "AUROC", one.difference, ends, pairs, FAMILY, one.note)
    pulls = []
    for arm in names:
        for reader in readers:
            # a case that somebody else read has no label here
            labels = truth.where(pairs["reader"] == reader)
            pulls.append(Pull.of(labels, pairs[f"confidence {arm}"], pairs["patient"]))
    aurocs = np.reshape([pull.auroc for pull in pulls], (2, len(readers)))
    of_patients = np.stack([pull.pulls for pull in pulls])  # (2 R, P)
    covariance = of_patients @ of_patients.T
    gap, error, freedom = obuchowski_rockette(aurocs, covariance)
    why = [pull.missing() for pull in pulls if pull.missing()]
    ends = interval(gap, error, freedom, FAMILY)
    if not why and np.isnan(ends[0]):
        why = [f"{NO_INTERVAL}no reader changed"]
    if why:
        ends = (np.nan, np.nan, np.nan)
    return of_readers(names, "AUROC", gap, ends, pairs, FAMILY, "".join(why[:1]))


def _moves(pairs, was_right, advice_right):
    """Readings of this kind: reader, patient, and whether the answer moved."""
    first = pairs[f"answer {ALONE}"]
    advice = pairs[f"advice {HELPED}"] >= 0.5  # it may be a probability
    right = (first == pairs["truth"]) == was_right
    told = (advice == pairs["truth"]) == advice_right
    chosen = pairs[right & told]
    moved = chosen[f"answer {HELPED}"] != chosen[f"answer {ALONE}"]
    return chosen[["reader", "patient"]].assign(moved=moved)


def _shares(moves):
    """A row for each kind of move, of these readers together."""
    rows = []
    for name, part in moves.items():
        row = clustered_mean(part["moved"], part["patient"], share=True)
        rows.append({"switch": name, **row})
    return pd.DataFrame(rows)
