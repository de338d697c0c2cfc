"""Films as they come from a bad day: twelve corruptions, each in five severities."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import ndimage
from scipy.special import expit
from tqdm.auto import tqdm

from radwb import data
from radwb.data.letters import letters
from radwb.fail.evidence import Evidence, compared
from radwb.models.model import Model, embed
from radwb.probe import Scores, zero_shot
from radwb.stats import compare_auroc

SEVERITIES = (1, 2, 3, 4, 5)
ATTENUATION = 3.0  # a white pixel gets exp(-3), a twentieth of a black one's photons
# what consoles burn in; nothing of it names a finding, a side or a view
LINES = ("DOE, JANE", "*1961-04-03", "WARD 7", "120 KV 4 MAS", "COPY 2")


class Corruption(NamedTuple):
    """One way to spoil a film.

    Attributes:
        spoil: (S, S) grey in [0, 1], a strength and a generator -> (S, S).
        strengths: one a severity.
        unit: of the strengths.
    """

    spoil: Callable
    strengths: tuple[float, ...]
    unit: str


def corrupt(
    images: np.ndarray, kind: str, severity: int, *, seed: int = 0
) -> np.ndarray:
    """Spoil your films in one way, to see whether a model still knows them.

    >>> films = rw.data.images(table, 128)
    >>> noisy = corrupt(films, "noise", 3)
    >>> noisy.shape, noisy.dtype
    ((60, 128, 128), dtype('uint8'))

    What is drawn for image i, such as the way it is turned, depends on `seed` and i
    alone, so that a higher severity is the same film spoilt further.

    Args:
        images: (N, S, S) uint8.
        kind: a key of `CORRUPTIONS`: noise, blur, motion, gamma,
            window, compression, collimation, rotation, inverted, resampling, text or
            grid.
        severity: 1 (hardly seen) to 5 (nobody would read it); 0 leaves the films as
            they are.
        seed: of what is drawn for each film.
    Returns:
        (N, S, S) uint8, a copy.
    Raises:
        ValueError: another kind, severity, type or shape, or no image.
    """
    images = checked(images)
    if kind not in CORRUPTIONS or severity not in (0, *SEVERITIES):
        raise ValueError(
            f"expected a kind of {', '.join(CORRUPTIONS)} and a severity from 0 to 5, "
            f"got {kind!r} and {severity!r}"
        )
    if severity == 0:
        return images.copy()
    corruption = CORRUPTIONS[kind]
    strength = corruption.strengths[severity - 1]
    spoilt = np.empty_like(images)
    for i, image in enumerate(images):
        rng = np.random.default_rng([seed, i])
        film = corruption.spoil(np.float32(image) / 255, strength, rng)
        spoilt[i] = np.rint(255 * film.clip(0, 1))
    return spoilt


def checked(images: np.ndarray) -> np.ndarray:
    """ValueError unless these are uint8 squares, one at least."""
    images = np.asarray(images)
    square = images.ndim == 3 and images.shape[1] == images.shape[2]
    if not square or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            "expected uint8 images (N, S, S), one at least, got "
            f"{images.dtype} {images.shape}. Try rw.data.images(table, S)"
        )
    return images


def _noise(film, photons, rng):
    """Poisson on what reaches the detector; dense parts get the fewest photons."""
    exposure = photons * np.exp(-ATTENUATION * film)
    counted = rng.poisson(exposure)
    # a pixel without a photon is as white as one with half of one
    arrived = np.maximum(counted, 0.5) / photons
    return -np.log(arrived) / ATTENUATION


def _blur(film, share, rng):
    return ndimage.gaussian_filter(film, share * len(film))


def _motion(film, share, rng):
    """A breath during the exposure moves the chest up and down."""
    length = 1 + 2 * round(share * len(film) / 2)
    return ndimage.uniform_filter1d(film, length, axis=0)


def _gamma(film, factor, rng):
    """Too dark or too bright, by the toss of a coin."""
    exponent = factor if rng.random() < 0.5 else 1 / factor
    return film**exponent


def _window(film, width, rng):
    """All greys beyond a window are black or white."""
    centre = rng.uniform(0.4, 0.6)
    return (film - centre) / width + 0.5


def _compression(film, quality, rng):
    file = BytesIO()
    Image.fromarray(np.uint8(255 * film)).save(file, "JPEG", quality=quality)
    return np.float32(Image.open(file)) / 255


def _collimation(film, share, rng):
    """Shutters on all four sides, each in as far as it likes."""
    S = len(film)
    depths = share * S * rng.uniform(0.5, 1.5, 4)
    top, bottom, left, right = depths.astype(int)
    shut = np.zeros_like(film)
    inside = np.s_[top : S - bottom, left : S - right]
    shut[inside] = film[inside]
    return shut


def _rotation(film, degrees, rng):
    turn = degrees * rng.choice((-1, 1))
    return ndimage.rotate(film, turn, reshape=False, order=1)


def _inverted(film, share, rng):
    """Black for white on some films; who has it keeps it as the share grows."""
    return 1 - film if rng.random() < share else film


def _resampling(film, share, rng):
    S = len(film)
    small = max(1, round(share * S))
    picture = Image.fromarray(film)
    picture = picture.resize((small, small), Image.Resampling.BILINEAR)
    return np.asarray(picture.resize((S, S), Image.Resampling.BILINEAR))


def _text(film, lines, rng):
    """Lines in a corner, one below the other."""
    written = film.copy()
    S = len(film)
    right, low = rng.random(2) < 0.5
    size = max(6, S // 13)
    top = max(0, S - len(LINES) * size) if low else 2
    for line in LINES[:lines]:
        room = max(0, S - top)
        ink = letters(line, size)[:room, :S] / 255
        height, width = ink.shape
        left = S - width if right else 0
        place = np.s_[top : top + height, left : left + width]
        written[place] = np.maximum(written[place], ink)
        top += size
    return written


def _grid(film, depth, rng):
    """The lines of an anti-scatter grid that stands still."""
    cycles = rng.uniform(0.22, 0.45)  # a pixel
    wave = depth * np.sin(2 * np.pi * cycles * np.arange(len(film)))
    if rng.random() < 0.5:
        wave = wave[:, None]
    return film + wave


CORRUPTIONS = {
    "noise": Corruption(_noise, (3000, 1200, 500, 200, 80), "photons a pixel in air"),
    "blur": Corruption(_blur, (0.004, 0.008, 0.012, 0.018, 0.026), "of the side"),
    "motion": Corruption(_motion, (0.02, 0.04, 0.06, 0.09, 0.13), "of the side"),
    "gamma": Corruption(_gamma, (1.2, 1.45, 1.75, 2.2, 3.0), "exponent or its inverse"),
    "window": Corruption(_window, (0.85, 0.7, 0.55, 0.4, 0.25), "of the greys"),
    "compression": Corruption(_compression, (50, 25, 12, 6, 2), "JPEG quality"),
    "collimation": Corruption(
        _collimation, (0.03, 0.06, 0.1, 0.15, 0.2), "of the side"
    ),
    "rotation": Corruption(_rotation, (3, 6, 10, 16, 25), "degrees"),
    "inverted": Corruption(_inverted, (0.1, 0.25, 0.5, 0.75, 1.0), "of the films"),
    "resampling": Corruption(_resampling, (0.7, 0.5, 0.35, 0.25, 0.15), "of the side"),
    "text": Corruption(_text, (1, 2, 3, 4, 5), "lines"),
    "grid": Corruption(_grid, (0.03, 0.06, 0.1, 0.15, 0.22), "of the greys"),
}


def scored(
    model: Model, images: np.ndarray, table: pd.DataFrame, findings: Sequence[str]
) -> Scores:
    """What a model says of films that are at hand: by its own head, else by words.

    Args:
        model: with `findings` or a text tower.
        images: (N, S, S) uint8 of the rows of `table`.
        table: their labels and patients.
        findings: names.
    """
    if model.findings is None:
        Z = embed(model, images)
        return zero_shot(model, table, findings, embeddings=Z)
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), 64):
            x = model.preprocess(images[start : start + 64])
            parts.append(model.classify(x).cpu().numpy())
    probabilities = expit(np.concatenate(parts))
    values = pd.DataFrame(probabilities, columns=list(model.findings))
    return Scores.of(values[list(findings)], table, findings)


@dataclass(frozen=True, eq=False)
class Robustness:
    """How a model's AUROC changes when its films are spoilt.

    Attributes:
        table: a row a kind and severity: kind, severity, strength, unit, auroc (mean
            over findings), difference from the clean films with low and high, paired by
            patient and widened for the number of rows, verdict, note.
        clean: Scores of the films as they are.
        spoilt: (kind, severity) -> Scores of the spoilt ones.
        moved: Scores of the films moved by one pixel, the control.
    """

    table: pd.DataFrame
    clean: Scores
    spoilt: dict[tuple[str, int], Scores]
    moved: Scores

    def evidence(self) -> list[Evidence]:
        """One row a kind: the mean change over its severities, paired by patient."""
        names = ("films moved by a pixel", "clean films")
        control = self.moved.against(self.clean, names).difference
        kinds = list(dict.fromkeys(kind for kind, _ in self.spoilt))
        rows = []
        for kind in kinds:
            of_kind = {s: scores for (k, s), scores in self.spoilt.items() if k == kind}
            severities = ", ".join(map(str, of_kind))
            comparison = compare_auroc(
                _beside([self.clean.truth] * len(of_kind)),
                _beside([scores.values for scores in of_kind.values()]),
                _beside([self.clean.values] * len(of_kind)),
                self.clean.patient_id,
                names=(f"{kind}, severity {severities},", "clean films"),
                what=f"mean AUROC of {len(self.clean.values.columns)}",
                family=len(kinds),
            )
            # the labels are the same at each severity, and so is what they lack
            note = self.table["note"].iloc[0]
            comparison = replace(comparison, note=note)
            rows.append(compared("robustness", kind, comparison, control=control))
        return rows


def _beside(tables):
    """Columns of several tables side by side, each with a name of its own."""
    numbered = [table.add_suffix(f" {n}") for n, table in enumerate(tables)]
    return pd.concat(numbered, axis=1)


def robustness(
    model: Model,
    table: pd.DataFrame,
    findings: Sequence[str] | None = None,
    *,
    kinds: Iterable[str] = tuple(CORRUPTIONS),
    severities: Iterable[int] = SEVERITIES,
    seed: int = 0,
) -> Robustness:
    """What each corruption costs your model, on the same films of the same patients.

    >>> few = robustness(model, table, ["Edema"], kinds=["blur"], severities=[1, 5])
    >>> few.table["severity"].tolist()
    [1, 5]
    >>> [row.verdict for row in few.evidence()]

    Args:
        model: with `findings`, whose own head is asked, or with a text tower, which is
            asked zero-shot.
        table: rows with labels and patients.
        findings: names; None = all that model and table have.
        kinds: of `corrupt`.
        severities: of 1 to 5.
        seed: of `corrupt`.
    Raises:
        ValueError: no finding has films with and without it.
    """
    findings = told_apart(model, table, findings)
    films = checked(data.images(table, model.size, fit=model.fit))
    clean = scored(model, films, table, findings)
    by_a_pixel = np.roll(films, 1, axis=2)
    moved = scored(model, by_a_pixel, table, findings)
    cells = [(kind, severity) for kind in kinds for severity in severities]
    spoilt = {}
    rows = []
    for kind, severity in tqdm(cells, "corruptions", delay=2, leave=False):
        films_now = corrupt(films, kind, severity, seed=seed)
        scores = scored(model, films_now, table, findings)
        names = (f"{kind} {severity}", "clean films")
        comparison = scores.against(clean, names, family=len(cells))
        spoilt[kind, severity] = scores
        rows.append(_row(kind, severity, scores, comparison))
    return Robustness(pd.DataFrame(rows), clean, spoilt, moved)


def _row(kind, severity, scores, comparison):
    corruption = CORRUPTIONS[kind]
    gap = comparison.row()
    return {
        "kind": kind,
        "severity": severity,
        "strength": corruption.strengths[severity - 1],
        "unit": corruption.unit,
        "auroc": scores.mean_auroc()["auroc"].item(),
        **{key: gap[key] for key in ("difference", "low", "high", "verdict", "note")},
    }


def told_apart(
    model: Model, table: pd.DataFrame, findings: Sequence[str] | None
) -> list[str]:
    """The findings that are asked for; ValueError where no AUROC can be had of any."""
    if findings is None:
        labelled = data.findings_of(table)
        findings = [name for name in model.findings or labelled if name in labelled]
    labels = table.reindex(columns=list(findings)).apply(pd.to_numeric)
    both = (labels == 1).any() & (labels == 0).any()
    if not both.any():
        raise ValueError(
            f"expected films with and without {' or '.join(findings) or 'a finding'}, "
            f"got {len(table)} of one kind"
        )
    return list(findings)
