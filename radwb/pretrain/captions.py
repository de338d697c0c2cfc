"""What a radiograph is paired with in training: the impression of its report."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch

from radwb.curate import sections


def caption_of(report: str) -> str:
    """The text that stands for an image: the impression (as in CheXzero), else the findings, else the report.

    >>> caption_of("FINDINGS: Sharp angles. IMPRESSION: No effusion.")
    'No effusion.'
    """
    parts = sections(report)
    return parts.get("impression") or parts.get("findings") or whole(report)


def sentences(report: str) -> list[str]:
    """The sentences of the impression (else of the findings), without the numbers of a list.

    >>> sentences("IMPRESSION: 1. Small right pleural effusion. 2. No 1.2 cm nodule.")
    ['Small right pleural effusion.', 'No 1.2 cm nodule.']
    """
    text = re.sub(r"(^|(?<=[.?!])\s+)\d+[.)]\s+", " ", caption_of(report))
    return [s for s in (part.strip() for part in re.split(r"(?<=[.?!])\s+", text)) if s]


def whole(report: str) -> str:
    """All of a report on one line: what a language model reads."""
    return " ".join(str(report).split())


class Captions:
    """Token ids and an identity for the caption of each row.

    Args:
        reports: N texts.
        tokenizer: texts -> (K, context) ids.
        say: report -> what is kept of it.
    """

    def __init__(self, reports: Sequence[str], tokenizer, *, say: Callable[[str], str] = caption_of):
        chosen = [say(r) for r in reports]
        self.texts = sorted(set(chosen))
        number = {text: i for i, text in enumerate(self.texts)}
        self.tokens = tokenizer(self.texts)  # (U, context)
        self.rows = torch.tensor([number[text] for text in chosen])  # (N,)

    def ids(self, rows: Sequence[int]) -> torch.Tensor:
        """(B,) identities: equal numbers are equal captions."""
        return self.rows[torch.as_tensor(rows)]


def order(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in an epoch."""
    return np.random.default_rng((seed, epoch, 0)).permutation(n)
