"""Does a model notice what it has never seen? Distances, and films to try them on."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from radwb import data
from radwb.fail.evidence import VERDICTS, Evidence
from radwb.models import Model
from radwb.stats import clustered_auroc, clustered_mean, format_interval

Films = tuple[np.ndarray, Sequence]


@dataclass(frozen=True, eq=False)
class Unknown:
    """How well each distance tells each kind of unknown films from known ones.

    Attributes:
        table: films, detector, auroc, low, high (by patient, at 1 - 0.05 / kinds of
            films; 1 is unknown), n, positives, patients, note; caught: the share of the
            unknown beyond the threshold that `alarms` of the known exceed; caught_low,
            caught_high (95 %).
        chance: {detector: AUROC of known films against other known films}.
        least: AUROC that a detector should have.
    """

    table: pd.DataFrame
    chance: dict[str, float]
    least: float

    def evidence(self, detector: str = "k-th neighbour") -> list[Evidence]:
        """Each kind of unknown films by one detector, chosen before looking.

        A failure is an AUROC below `least` for sure: such films are answered as if they
        were known. Each kind is one comparison more, and the intervals are widened for
        it.
        """
        rows = self.table[self.table["detector"] == detector]
        if not len(rows):
            names = ", ".join(self.table["detector"].unique())
            raise ValueError(f"expected a detector of {names}, got {detector!r}")
        return [self._row(row) for _, row in rows.iterrows()]

    def _row(self, row):
        failure, unseen, unsure, _ = VERDICTS
        verdict = unsure
        if row["high"] < self.least:
            verdict = failure
        elif row["low"] > self.least:
            verdict = unseen
        measure = f"AUROC of the {row['detector']}, unknown against known"
        return Evidence(
            kind="unknown input",
            tried=row["films"],
            measure=measure,
            value=row["auroc"],
            low=row["low"],
            high=row["high"],
            n=int(row["patients"]),
            unit="patients",
            verdict=verdict,
            sentence=f"{row['films']}: {measure} {format_interval(row)}",
            control=self.chance[row["detector"]],
        )


def strangeness(
    reference: np.ndarray,
    Z: np.ndarray,
    *,
    logits: np.ndarray | None = None,
    k: int = 5,
) -> pd.DataFrame:
    """How strange each of your films is, by the detectors of pytorch-ood.

    >>> strangeness(Z[:40], Z[40:]).columns.tolist()
    ['k-th neighbour', 'Mahalanobis']

    The distance to the k-th nearest of the reference on the unit sphere (Sun et al.
    2022, arXiv 2204.06507); half the squared Mahalanobis distance to their mean (Lee et
    al. 2018, arXiv 1807.03888); the energy (Liu et al. 2020, arXiv 2010.03759), which
    for findings that don't exclude each other is summed over them (Wang et al. 2021,
    arXiv 2111.12797).

    Args:
        reference: (M, E) embeddings of training films.
        Z: (N, E) embeddings of the films asked about.
        logits: (N, K) one a finding, of the same films; None leaves the energy out.
        k: of the nearest.
    Returns:
        (N, detectors), larger = stranger.
    Raises:
        ValueError: fewer than k reference films.
    """
    import torch

    detectors = _library()
    if len(reference) < k:
        raise ValueError(
            f"expected {k} reference films or more for the k-th neighbour, "
            f"got {len(reference)}. Try a smaller k"
        )
    known = torch.as_tensor(np.array(reference, np.float32))
    asked = torch.as_tensor(np.array(Z, np.float32))
    one_class = torch.zeros(len(known), dtype=torch.long)
    nearest = detectors.KNN(None, k=k).fit_features(known, one_class)
    spread = detectors.Mahalanobis(None).fit_features(known, one_class)
    columns = {
        "k-th neighbour": nearest.predict_features(asked),
        "Mahalanobis": spread.predict_features(asked),
    }
    if logits is not None:
        pair = torch.as_tensor(np.array(logits))[:, None]  # (N, 1, K)
        pair = torch.cat([torch.zeros_like(pair), pair], dim=1)  # without, with
        energies = detectors.EnergyBased(None).predict_logits(pair)  # (N, K)
        columns["energy"] = energies.sum(dim=1)
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def _library():
    try:
        from pytorch_ood import detector
    except ImportError as error:
        raise ImportError(
            "expected pytorch-ood for detectors of the unknown. "
            "Try pip install 'radwb[fail]'"
        ) from error
    return detector


def unknown_films(
    images: np.ndarray, patients: Sequence, model: Model, *, seed: int = 0
) -> dict[str, Films]:
    """Films that a model of yours should take for strange, from plain to subtle.

    >>> images = rw.data.images(test, model.size)
    >>> list(unknown_films(images, test["patient_id"], model))[:3]
    ['mirrored films', 'inverted films', 'noise']

    Args:
        images: (N, S, S) uint8 films that the model should know.
        patients: (N,) their owners.
        model: its size and fit say how others are made ready.
        seed: of the noise.
    Returns:
        name -> (stack, owners): the same films mirrored and inverted, white noise (each
        of its own owner), axial slices of one CT, radiographs of children; a set that
        isn't on this machine is left out.
    """
    size = images.shape[-1]
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (min(len(images), 100), size, size), dtype=np.uint8)
    sources = [f"noise {i}" for i in range(len(noise))]
    films = {
        "mirrored films": (images[:, :, ::-1], patients),
        "inverted films": (255 - images, patients),
        "noise": (noise, sources),
    }
    with suppress(data.FetchError):
        slices = _ct_slices(size)
        films["axial CT slices"] = (slices, ["CT"] * len(slices))
    with suppress(data.FetchError):
        children = data.real("kermany-16")
        stack = data.images(children, size, fit=model.fit)
        films["chests of children"] = (stack, children["patient_id"])
    return films


def _ct_slices(size):
    """(N, S, S) uint8 axial slices in a window of the lung, every fourth."""
    volume = data.read(data.fetch("lidc-ct") / "cxr.nii.gz")
    upwards = np.abs(volume.affine[2, :3])
    head_to_foot = int(upwards.argmax())
    slices = []
    for i in range(10, volume.shape[head_to_foot] - 10, 4):
        axial = volume.slice(head_to_foot, i, (-1000, 400))
        slices.append(data.to_input(axial.pixels, size) * 255)
    return np.stack(slices).astype(np.uint8)


def unknown_report(
    known: pd.DataFrame,
    patients: Sequence,
    unknown: Mapping[str, tuple[pd.DataFrame, Sequence]],
    *,
    alarms: float = 0.05,
    least: float = 0.8,
) -> Unknown:
    """Whether each distance tells unknown films from known ones, by patient.

    >>> far = strangeness(Z[:30], Z[30:]), patients[30:]
    >>> report = unknown_report(*far, {"the same": far})
    >>> report.table["auroc"].round(2).tolist()
    [0.5, 0.5]

    Args:
        known: what `strangeness` says of films the model should know, other patients'
            than the reference.
        patients: their owners.
        unknown: name -> the same for films it shouldn't know, and their owners.
        alarms: share of the known that may raise an alarm.
        least: AUROC that a detector should have.
    Raises:
        ValueError: no known film, or no unknown one.
    """
    if not len(known) or not all(len(far) for far, _ in unknown.values()):
        raise ValueError(
            f"expected known films and some of each unknown kind, got {len(known)} "
            f"known and {[len(far) for far, _ in unknown.values()]} unknown"
        )
    patients = np.asarray(patients, dtype=object)
    rows = []
    for name, (far, owners) in unknown.items():
        owners = np.asarray(owners, dtype=object)
        for detector in known:
            pair = known[detector].to_numpy(), far[detector].to_numpy()
            row = {"films": name, "detector": detector}
            row |= _told_apart(*pair, patients, owners, kinds=len(unknown))
            limit = np.quantile(pair[0], 1 - alarms)
            caught = clustered_mean(pair[1] > limit, owners, share=True)
            row |= {"caught": caught["mean"], "caught_low": caught["low"]}
            rows.append(row | {"caught_high": caught["high"]})
    return Unknown(pd.DataFrame(rows), _halves(known, patients), least)


def _told_apart(known, unknown, patients, owners, *, kinds=1):
    """AUROC with its interval, widened as one of so many kinds."""
    y = np.repeat([0, 1], [len(known), len(unknown)])
    values = np.concatenate([known, unknown])
    everyone = np.concatenate([patients, owners])
    row = clustered_auroc(y, values, everyone, level=1 - 0.05 / kinds)
    if kinds > 1 and not row["note"]:
        row["note"] = f"one of {kinds} comparisons"
    return row


def _halves(known, patients):
    """The control: one half of the known patients as if they were unknown."""
    names = sorted({str(patient) for patient in patients})
    half = set(np.random.default_rng(0).permutation(names)[::2])
    taken = np.array([str(patient) in half for patient in patients])
    chance = {}
    for detector in known:
        values = known[detector].to_numpy()
        sides = values[~taken], values[taken], patients[~taken], patients[taken]
        chance[detector] = _told_apart(*sides)["auroc"]
    return chance
