"""What a model says of each film for some words, and its place among all films."""

import numpy as np
import torch
from scipy.stats import rankdata

from radwb.attend.progress import steps
from radwb.attend.targets import directions
from radwb.attend.tower import forward
from radwb.explore.words import as_target, ordinal

READ_UNASKED = 2000  # films that are read without being asked to
AT_MEDIAN = "error at the median"


class Scores:
    """The outputs of one model on films, each computed once.

    Args:
        model: a `rw.models.Model`.
        films: `Films`.
        kept: `Kept`, of film -> (E,).
    """

    def __init__(self, model, films, kept):
        self.model = model
        self.films = films
        self.kept = kept

    def __len__(self):
        return len(self.films)

    def output(self, case: int) -> np.ndarray:
        """(E,) as scores are made of it; (0,) of a film that can't be read."""
        return self.kept.get(self.films.key(case), lambda: self._output(case))

    def complete(self) -> bool:
        keys = map(self.films.key, range(len(self.films)))
        return all(key in self.kept for key in keys)

    def of_film(self, case: int, target: str) -> float:
        """The cosine, the difference of two, the probability or the neuron's value."""
        score = self._scores([self.output(case)], target)[0]
        return float(self._shown(score))

    def said(self, case: int, target: str) -> dict:
        """The film's score, what it is, and no place yet."""
        value = self.of_film(case, target)
        text = self.words(value, target)
        return {"text": text, "value": value, "rank": None, "of": None, "busy": ""}

    def of_all(self, target: str) -> np.ndarray:
        """(N,) the same of all films, NaN where one can't be read."""
        every = range(len(self.films))
        outputs = [self.output(case) for case in steps(every, "reading films")]
        return self._shown(self._scores(outputs, target))

    def words(self, value: float, target: str) -> str:
        """The score and what it is."""
        asked = as_target(target)
        if self.model.findings is not None:
            return f"probability {value:.2f}"
        if isinstance(asked, int):
            return f"{target}: {value:.3f}"
        if isinstance(asked, tuple):
            return f"difference of cosines {value:+.3f}"
        return f"cosine {value:.2f}"

    def _scores(self, outputs, target):
        toward = directions(self.model, as_target(target), 1)[0].float().cpu().numpy()
        scores = [output @ toward if output.size else np.nan for output in outputs]
        return np.array(scores)

    def _shown(self, scores):
        if self.model.findings is None:
            return scores
        return 1 / (1 + np.exp(-scores))  # as rw.probe.classify

    def _output(self, case):
        if self.model.net.training:
            # a pass would count in its batch norms, and drop what it likes
            raise RuntimeError(f"{self.model.name} is being trained: no scores now")
        try:
            x = self.model.preprocess(self.films.read(case))
        except (OSError, ValueError):
            return np.zeros(0, np.float32)
        with torch.no_grad():
            return forward(self.model, x)[0].float().cpu().numpy()


def placed(scores: np.ndarray, case: int) -> dict[str, int]:
    """The film's rank, 1 the highest, of how many.

    >>> placed(np.array([0.1, 0.3, np.nan, 0.2]), 3)
    {'rank': 2, 'of': 3}
    """
    above = int((scores > scores[case]).sum())
    return {"rank": above + 1, "of": int(np.isfinite(scores).sum())}


def place_in_words(rank: int, of: int) -> str:
    return f"{ordinal(rank)} of {of} films"


def ranks(scores: np.ndarray) -> list[int | None]:
    """Each film's rank, None where it has no score."""
    known = np.isfinite(scores)
    ranked = np.full(len(scores), None, object)
    ranked[known] = rankdata(-scores[known], "min").astype(int).tolist()
    return ranked.tolist()


def errors_at_median(scores: np.ndarray, labels: list) -> list[str | None]:
    """Where score and label part, if the upper half of the scores counts as present.

    >>> errors_at_median(np.array([0.1, 0.9, 0.2, 0.8]), [1, 0, 0, None])
    ['missed', 'false alarm', 'agrees', None]
    """
    if not np.isfinite(scores).any():
        return [None] * len(labels)
    median = np.nanmedian(scores)
    errors = []
    for score, label in zip(scores, labels, strict=True):
        if label not in (0, 1) or not np.isfinite(score):
            errors.append(None)
        elif (score > median) == bool(label):
            errors.append("agrees")
        else:
            errors.append("missed" if label else "false alarm")
    return errors
