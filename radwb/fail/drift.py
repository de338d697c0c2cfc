"""A scanner changes: who notices, and how late?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from tqdm.auto import tqdm

from radwb.fail.evidence import Evidence
from radwb.identifiers import numbered
from radwb.stats import compare_seeds, format_interval, wilson

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
            noticed = _streams(part["delay"].notna(), detectors)
            calm = _streams(part["calm_alarm"], detectors)
            rows.append(_noticed_evidence(detector, tried, noticed, calm))
            rows.append(_delay_evidence(tried, part["delay"].dropna()))
        return rows


def _streams(alarms, family):
    """The share of streams with an alarm, Wilson's interval, and how many there are."""
    hits = int(alarms.sum())
    low, high = wilson(hits, len(alarms), level=1 - 0.05 / family)
    return {"value": hits / len(alarms), "low": low, "high": high, "n": len(alarms)}


def _noticed_evidence(detector, tried, noticed, calm):
    """A failure where a change is noticed in less than half of the streams, surely."""
    verdict = "can't tell"
    if noticed["high"] < 0.5:
        verdict = "failure"
    elif noticed["low"] > max(0.5, calm["high"]):  # who always cries notices nothing
        verdict = "no failure seen"
    sentence = (
        f"{detector} notices {format_interval(noticed, 'value')} of the changes and "
        f"gives alarm in {format_interval(calm, 'value')} of the streams without one"
    )
    measure = "share of streams in which the change is noticed"
    return _of_seeds(tried, measure, noticed, sentence, verdict, calm["value"])


def _of_seeds(tried, measure, row, sentence, verdict="measured", control=np.nan):
    return Evidence(
        kind="drift",
        tried=tried,
        measure=measure,
        value=row["value"],
        low=row["low"],
        high=row["high"],
        n=row["n"],
        unit="seeds",
        verdict=verdict,
        sentence=sentence,
        control=control,
    )


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
    sentence = f"{measure}: {format_interval(row, 'delay')}"
    row |= {"value": row["delay"], "n": len(delays)}
    return _of_seeds(tried, measure, row, sentence)


def watch_drift(
    reference: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    *,
    patients: tuple[Sequence, Sequence],
    t0: int = 150,
    length: int = 300,
    seeds: int = 20,
    detectors: Iterable[str] = DETECTORS,
) -> Drift:
    """Let detectors watch streams of your films, without labels, as a scanner changes.

    >>> noisy = rw.fail.corrupt(rw.data.images(table, model.size), "noise", 5)
    >>> new = rw.models.embed(model, noisy)
    >>> short = {"t0": 15, "length": 30, "seeds": 2, "detectors": ["window"]}
    >>> owners = patients[:30], patients[30:]
    >>> drift = watch_drift(Z[:30], Z[30:], new[30:], patients=owners, **short)
    >>> drift.summary()["seeds"].item()
    2

    Each seed draws whole patients and an order of their films; from film `t0` on these
    come from the new scanner. river's "page-hinkley", "adwin" and "kswin", with its own
    settings, watch how strange each film is: its Mahalanobis distance from half of the
    reference, in deviations of the other half. "window" watches the mean of the last 30
    films, in directions that half of the reference's patients give; its threshold is
    such that one in twenty streams of whole patients of the other half gives alarm.

    Args:
        reference: (M, E) embeddings, or (M, 1) scores, of films of the old scanner.
        before: (N, E) of N other films on the old scanner.
        after: (N, E) of the same films on the new one.
        patients: (M,) owners of the reference's films, (N,) of the others.
        t0: films before the change.
        length: of a stream, N at most.
        seeds: number of streams, two at least.
        detectors: of `DETECTORS`.
    Raises:
        ValueError: the films don't pair, or are too few; a patient isn't known; another
            detector.
    """
    check_streams(reference, before, after, t0, length)
    of_reference = _films_of(patients[0], reference, least=10)
    of_stream = _films_of(patients[1], before)
    unknown = set(detectors) - set(DETECTORS)
    if unknown:
        raise ValueError(
            f"expected detectors of {', '.join(DETECTORS)}, got {', '.join(unknown)}"
        )
    watchers = {}
    for name in detectors:
        watchers[name] = _watcher(name, reference, of_reference, length)
    rows = []
    for seed in tqdm(range(seeds), "streams", delay=2, leave=False):
        rng = np.random.default_rng(seed)
        drawn = rng.permutation(len(of_stream))
        order = _mixed(of_stream, drawn, length, rng)
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


def _films_of(patients, films, least=1):
    """The rows of each patient's films.

    >>> _films_of(["a", "b", "a"], np.eye(3))
    [array([0, 2]), array([1])]
    """
    row, named = numbered(patients)
    if len(row) != len(films) or (row < 0).any() or named < least:
        raise ValueError(
            f"expected a patient_id for each film, and {least} patients or more, got "
            f"{len(row)} for {len(films)} films, {(row < 0).sum()} of them missing, "
            f"and {named} patients. Try rw.curate.one_patient_per_image(table)"
        )
    return [np.flatnonzero(row == patient) for patient in range(named)]


def _mixed(films_of, drawn, n, rng):
    """That many films of whole patients, but for the last one, in random order."""
    films = np.concatenate([films_of[patient] for patient in drawn])
    return rng.permutation(films[:n])


def _watcher(name, reference, films_of, length):
    """A function of a stream and a seed: the film of the first alarm, NaN without."""
    if name == "window":
        return _window_watcher(reference, films_of, length)
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


def _window_watcher(reference, films_of, length):
    """Directions of one half of the patients, and how far the other half wanders."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(films_of))
    fitted = np.concatenate([films_of[patient] for patient in order[::2]])
    others = [films_of[patient] for patient in order[1::2]]
    few = min(COMPONENTS, *reference[fitted].shape)
    main = PCA(few, whiten=True).fit(reference[fitted])
    usual = main.transform(reference)  # (M, few)

    def drawn(n):
        return usual[_mixed(others, rng.integers(len(others), size=n), n, rng)]

    furthest = []
    for _ in range(CALM_STREAMS):
        centre = drawn(len(usual)).mean(axis=0)  # it isn't known either
        furthest.append(_window_distances(drawn(length) - centre).max())
    threshold = np.quantile(furthest, 0.95)

    def watch(stream, seed):
        distances = _window_distances(main.transform(stream) - usual.mean(axis=0))
        alarms = np.flatnonzero(distances > threshold)
        filled = min(WINDOW, len(stream))
        return alarms[0] + filled - 1 if len(alarms) else np.nan

    return watch


def _window_distances(stream):
    """How far the means of WINDOW films in a row lie from 0, a number a window."""
    window = min(WINDOW, len(stream))
    sums = np.cumsum(np.insert(stream, 0, 0, axis=0), axis=0)
    means = (sums[window:] - sums[:-window]) / window
    return np.linalg.norm(means, axis=1)
