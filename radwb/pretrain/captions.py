"""What a radiograph is paired with in training: the impression of its report."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import pandas as pd
import torch

from radwb.curate import sections
from radwb.identifiers import MISSING


def caption_of(report: str) -> str:
    """The text that an image is trained against: the impression of its report.

    As in CheXzero; where there is none the findings, and else what has no heading. ""
    where nothing is said of the image: no report (None, NaN, or a text such as "nan"
    that a missing one has left), or nothing but why it was made, what was recommended
    and who was told.

    >>> caption_of("FINDINGS: Sharp angles. IMPRESSION: No effusion.")
    'No effusion.'
    """
    return "" if is_missing(report) else _caption_of(report)


@lru_cache(2**16)  # a run asks for each several times
def _caption_of(report):
    parts = sections(report)
    texts = (parts[name] for name in ("impression", "findings", "other"))
    return next((text for text in texts if not is_missing(text)), "")


def sentences(report: str) -> list[str]:
    """The sentences of the impression (else of the findings), without a list's numbers.

    >>> sentences("IMPRESSION: 1. Small right pleural effusion. 2. No 1.2 cm nodule.")
    ['Small right pleural effusion.', 'No 1.2 cm nodule.']
    """
    text = re.sub(r"(^|(?<=[.?!])\s+)\d+[.)]\s+", " ", caption_of(report))
    parts = [part.strip() for part in re.split(r"(?<=[.?!])\s+", text)]
    return [part for part in parts if part]


def whole(report: str) -> str:
    """All of a report on one line: what a language model reads; "" without one."""
    return "" if is_missing(report) else " ".join(str(report).split())


def is_missing(report) -> bool:
    """Whether there is no report: None, NaN, pd.NA, NaT, or a text that one has left.

    >>> [is_missing(text) for text in (float("nan"), "None", " ", "No effusion.")]
    [True, True, True, False]
    """
    if not isinstance(report, str):
        return bool(pd.isna(report))
    return report.strip().lower() in MISSING


class Captions:
    """Token ids and an identity for the caption of each row.

    A row without a report has none: `fit` leaves such rows out, and asking for its
    caption raises ValueError.

    Args:
        reports: N texts.
        tokenizer: texts -> (K, context) ids.
        say: report -> what is taken of it.
    """

    def __init__(
        self,
        reports: Sequence[str],
        tokenizer,
        *,
        say: Callable[[str], str] = caption_of,
    ):
        captions = [say(report) for report in reports]
        texts = {text for text in captions if not is_missing(text)}
        self.texts = sorted(texts)
        self.tokens = tokenizer(self.texts)  # (U, context)
        number = {text: i for i, text in enumerate(self.texts)}
        # (N,), -1 without a caption
        self.rows = torch.tensor([number.get(text, -1) for text in captions])

    def ids(self, rows: Sequence[int]) -> torch.Tensor:
        """(B,) identities: equal numbers are equal captions."""
        ids = self.rows[torch.as_tensor(rows)]
        silent = int((ids < 0).sum())
        if silent:
            raise ValueError(
                f"expected rows with a report, got {silent} of {len(ids)} without: "
                "nothing is taught in its place. "
                "Try table[~rw.pretrain.rows.without_report(table['report'])]"
            )
        return ids
