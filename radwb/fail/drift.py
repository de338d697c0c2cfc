"""A scanner changes: who notices, how late, and what does the model's own word say?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from tqdm.auto import tqdm

from radwb.fail.evidence import Evidence, compared
from radwb.probe import Scores
from radwb.stats import auroc, clustered_auroc, compare, compare_seeds, format_interval
from radwb.stats.sentence import Comparison

DETECTORS = ("page-hinkley", "adwin", "kswin", "window")
WINDOW = 30  # films whose mean is held against the reference's
COMPONENTS = 10
CALM_STREAMS = 400  # drawn of the reference, to set the threshold of "window"


@dataclass(frozen=True, eq=False)
class Drift:
    """When detectors gave alarm in streams with a change, and in streams without.

    Attributes:
        table: a row a detector and seed: detector, seed, alarm (film of the first, NaN
            where there is none), false_alarm (before the change), delay (films from the
            change to the alarm; NaN without one or after a false one), calm_alarm (any
            in the same stream without a change).
        t0: film of the change.
    """

    table: pd.DataFrame
    t0: int

    def summary(self) -> pd.DataFrame:
        """A row a detector: noticed, delay with low and high, false alarms, seeds."""
        rows = []
        for detector, part in self.table.groupby("detector", sort=False):
            row = {
                "detector": detector,
                "noticed": part["delay"].notna().mean(),
                **_mean_delay(part["delay"].dropna()),
                "false_alarm": part["false_alarm"].mean(),
                "calm_alarm": part["calm_alarm"].mean(),
                "seeds": len(part),
            }
            rows.append(row)
        return pd.DataFrame(rows)

    def evidence(self) -> list[Evidence]:
        """Two rows a detector: whether it notices the change, and how late."""
        rows = []
        detectors = self.table["detector"].nunique()
        for detector, part in self.table.groupby("detector", sort=False):
            tried = f"{detector}, a change at film {self.t0}"
            noticed = compare_seeds(
                part["delay"].notna(),
                part["calm_alarm"],
                names=(f"{detector} with a change", "without one"),
                what="share of streams with an alarm",
                family=detectors,
            )
            calm = part["calm_alarm"].mean()
            rows.append(compared("drift", tried, noticed, control=calm))
            rows.append(_delay_evidence(tried, part["delay"].dropna()))
        return rows


def _mean_delay(delays):
    """Mean with Student's interval over seeds; no delay is below 0."""
    row = {"delay": delays.mean(), "low": np.nan, "high": np.nan}
    if len(delays) > 1:
        mean = compare_seeds(delays, names=("delay", "0"))
        row |= {"low": max(mean.low, 0.0), "high": mean.high}
    return row


def _delay_evidence(tried, delays):
    row = _mean_delay(delays)
    measure = "films until the alarm"
    return Evidence(
        kind="drift",
        tried=tried,
        measure=measure,
        value=row["delay"],
        low=row["low"],
        high=row["high"],
        n=len(delays),
        unit="seeds",
        verdict="measured",
        sentence=f"{measure}: {format_interval(row, 'delay')}",
    )


def watch_drift(
    reference: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    *,
    t0: int = 150,
    length: int = 300,
    seeds: int = 20,
    detectors: Iterable[str] = DETECTORS,
) -> Drift:
    """Let detectors watch streams of your films, without labels, as a scanner changes.

    >>> noisy = rw.fail.corrupt(rw.data.images(table, model.size), "noise", 5)
    >>> new = rw.models.embed(model, noisy)
    >>> short = {"t0": 15, "length": 30, "seeds": 2, "detectors": ["window"]}
    >>> watch_drift(Z[:30], Z[30:], new[30:], **short).summary()["seeds"].item()
    2

    Each seed draws an order of the films; from film `t0` on they come from the new
    scanner. river's "page-hinkley", "adwin" and "kswin", with its own settings, watch
    how strange each film is: its Mahalanobis distance from half of the reference, in
    deviations of the other half. "window" watches the mean of the last 30 films; its
    threshold is such that one in twenty streams drawn from the reference gives alarm.

    Args:
        reference: (M, E) embeddings, or (M, 1) scores, of films of the old scanner.
        before: (N, E) of N other films on the old scanner.
        after: (N, E) of the same films on the new one.
        t0: films before the change.
        length: of a stream, N at most.
        seeds: number of streams, two at least.
        detectors: of `DETECTORS`.
    Raises:
        ValueError: the films don't pair, or are too few; another detector.
    """
    check_streams(reference, before, after, t0, length)
    unknown = set(detectors) - set(DETECTORS)
    if unknown:
        raise ValueError(
            f"expected detectors of {', '.join(DETECTORS)}, got {', '.join(unknown)}"
        )
    watchers = {name: _watcher(name, reference, length) for name in detectors}
    rows = []
    for seed in tqdm(range(seeds), "streams", delay=2, leave=False):
        order = np.random.default_rng(seed).permutation(len(before))[:length]
        calm = before[order]
        changed = np.concatenate([calm[:t0], after[order[t0:]]])
        for name, watch in watchers.items():
            alarm = watch(changed, seed)
            false = alarm < t0
            row = {"detector": name, "seed": seed, "alarm": alarm, "false_alarm": false}
            row["delay"] = np.nan if false else alarm - t0
            row["calm_alarm"] = not np.isnan(watch(calm, seed))
            rows.append(row)
    return Drift(pd.DataFrame(rows), t0)


def check_streams(reference, before, after, t0, length):
    """ValueError unless such streams can be drawn."""
    shapes = [np.shape(values) for values in (reference, before, after)]
    paired = shapes[1] == shapes[2] and len({shape[1:] for shape in shapes}) == 1
    if not paired or len(shapes[0]) != 2:
        raise ValueError(
            "expected (M, E) of the reference and (N, E) of the same films before and "
            f"after, got {shapes}"
        )
    films = len(before)
    if not 0 < t0 < length <= films or len(reference) < 10:
        raise ValueError(
            "expected a change within a stream no longer than the films, and 10 films "
            f"of reference, got t0={t0}, length={length}, {films} films and "
            f"{len(reference)}. Try length={films}, t0={films // 2}"
        )


def _watcher(name, reference, length):
    """A function of a stream and a seed: the film of the first alarm, NaN without."""
    if name == "window":
        return _window_watcher(reference, length)
    strange = strangeness(reference)
    calm = strange(reference[1::2])

    def watch(stream, seed):
        detector = _river(name, seed)
        for value in calm:  # it learns what is usual
            detector.update(value)
        for film, value in enumerate(strange(stream)):
            detector.update(value)
            if detector.drift_detected:
                return film
        return np.nan

    return watch


def _river(name, seed):
    try:
        from river import drift
    except ImportError as error:
        raise ImportError(
            f"expected river for {name!r}, which isn't installed. "
            "Try pip install 'radwb[fail]'"
        ) from error
    if name == "kswin":
        return drift.KSWIN(seed=seed)
    return drift.ADWIN() if name == "adwin" else drift.PageHinkley()


def strangeness(reference: np.ndarray):
    """A function (N, E) -> (N,): how far films lie from those of the reference.

    The distance is fitted on the even rows of the reference and scaled by the odd ones:
    films that it was fitted on lie nearer than others.
    """
    fitted = LedoitWolf().fit(reference[::2])
    others = np.sqrt(fitted.mahalanobis(reference[1::2]))
    middle = others.mean()
    deviation = others.std()

    def strange(films):
        return (np.sqrt(fitted.mahalanobis(films)) - middle) / deviation

    return strange


def _window_watcher(reference, length):
    few = min(COMPONENTS, *reference.shape)
    main = PCA(few, whiten=True).fit(reference)
    usual = main.transform(reference)  # (M, few)
    rng = np.random.default_rng(0)
    M = len(usual)
    furthest = []
    for _ in range(CALM_STREAMS):
        centre = usual[rng.integers(M, size=M)].mean(axis=0)  # it isn't known either
        stream = usual[rng.integers(M, size=length)]
        furthest.append(_window_distances(stream - centre).max())
    threshold = np.quantile(furthest, 0.95)

    def watch(stream, seed):
        distances = _window_distances(main.transform(stream))
        alarms = np.flatnonzero(distances > threshold)
        return alarms[0] + WINDOW - 1 if len(alarms) else np.nan

    return watch


def _window_distances(stream):
    """How far the means of WINDOW films in a row lie from 0, a number a window."""
    window = min(WINDOW, len(stream))
    sums = np.cumsum(np.insert(stream, 0, 0, axis=0), axis=0)
    means = (sums[window:] - sums[:-window]) / window
    return np.linalg.norm(means, axis=1)


def expected_auroc(p: np.ndarray) -> float:
    """The AUROC that probabilities foretell of themselves, if they are calibrated.

    >>> expected_auroc([0.9, 0.9, 0.1, 0.1])
    0.93...

    Of two films i and j, i is the case and j the control with the chance p_i (1 - p_j).
    Among all pairs, the share of this weight where the case has the higher p.

    Args:
        p: (N,) probabilities; a tie counts half.
    Returns:
        NaN where no pair has weight.
    """
    p = np.sort(np.asarray(p, float))
    controls_up_to = np.cumsum(1 - p)
    below = controls_up_to - (1 - p)
    won = (p * below).sum()
    pairs = p.sum() * (1 - p).sum() - (p * (1 - p)).sum()
    return float(won / pairs) if pairs > 0 else np.nan


@dataclass(frozen=True, eq=False)
class Foretold:
    """What a model's own probabilities foretold without labels, and what came.

    Attributes:
        table: a row a part and finding: part, finding, foretold_accuracy, accuracy,
            foretold_auroc, auroc with low and high by patient, n.
        comparisons: (part, finding) -> accuracy foretold less real, by patient.
    """

    table: pd.DataFrame
    comparisons: dict[tuple[str, str], Comparison]

    def evidence(self) -> list[Evidence]:
        """A row a part but the first, which is the control, and finding."""
        first = self.table["part"].iloc[0]
        rows = []
        for (part, finding), comparison in self.comparisons.items():
            if part == first:
                continue
            tried = f"accuracy for {finding} foretold without labels, {part}"
            control = self.comparisons[first, finding].difference
            row = compared("drift", tried, comparison, harm="ahead", control=control)
            rows.append(row)
        return rows


def foretell(reference: Scores, watched: Mapping[str, Scores]) -> Foretold:
    """What your model would say of its own performance where nobody has labels.

    >>> half = np.arange(60) % 2 == 0
    >>> def part(rows):
    ...     patients = scores.patient_id[rows]
    ...     return rw.probe.Scores(scores.values[rows], scores.truth[rows], patients)
    >>> foretell(part(half), {"others": part(~half)}).table["n"].tolist()
    [30, 30]

    Confidence-based estimation, the CBPE of nannyml: probabilities are calibrated on
    the reference (Platt's logistic curve), and then taken at their word. It is right as
    long as films with the same score are ill as often as they were in the reference.

    Args:
        reference: labelled, of films that the model wasn't trained on.
        watched: name -> Scores of other films, with labels, for these are what is
            compared; the first is the control, where nothing has changed.
    Raises:
        ValueError: a reference of one class, or a part without labelled films.
    """
    rows = []
    comparisons = {}
    for finding in reference.values:
        calibrate = calibration(reference, finding)
        for part, scores in watched.items():
            y, odds, patients = labelled(scores, finding, part)
            p = calibrate(odds)
            foretold = np.maximum(p, 1 - p)
            right = (p > 0.5) == (y == 1)
            comparison = compare(
                foretold,
                right,
                patients,
                names=("what was foretold", "what came"),
                what=f"accuracy for {finding}",
                family=len(watched) * len(reference.values.columns),
            )
            comparisons[part, finding] = comparison
            row = {"part": part, "finding": finding}
            row["foretold_accuracy"] = foretold.mean()
            row["accuracy"] = right.mean()
            row["foretold_auroc"] = expected_auroc(p)
            rows.append(row | clustered_auroc(y, p, patients))
    return Foretold(pd.DataFrame(rows), comparisons)


def labelled(scores: Scores, finding: str, part: str):
    """Labels, log odds and patients of the films that have a label."""
    truth = scores.truth[finding].to_numpy(float)
    known = np.isin(truth, (0, 1))
    if not known.any():
        raise ValueError(
            f"expected films with a label for {finding} in {part!r}, "
            f"got {len(truth)} without"
        )
    p = scores.values[finding].to_numpy(float)[known]
    odds = logit(p.clip(1e-7, 1 - 1e-7))
    return truth[known], odds, scores.patient_id[known]


def calibration(reference: Scores, finding: str):
    """Platt's curve: a function of log odds, fitted on the reference."""
    y, odds, _ = labelled(reference, finding, "the reference")
    if np.isnan(auroc(y, odds)):
        raise ValueError(
            f"expected a reference with and without {finding}, "
            f"got {len(y)} films of one kind"
        )
    curve = LogisticRegression(C=1e6).fit(odds[:, None], y)

    def calibrate(odds):
        return curve.predict_proba(odds[:, None])[:, 1]

    return calibrate
