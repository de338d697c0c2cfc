"""A byte-level BPE that is trained on the reports themselves, in the form that
open_clip's text tower expects.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tokenizers as hf
import torch

from radwb.models.checks import read_tokenizer

PAD, START, END = "<pad>", "<start>", "<end>"


class Tokenizer:
    """Texts -> (K, context) token ids: start, words, end, then padding.

    >>> Tokenizer.train(["no effusion", "small right effusion"])(["right effusion"]).shape
    torch.Size([1, 64])

    The end token has the highest id, since open_clip's text tower pools at
    `ids.argmax(-1)`.
    """

    def __init__(self, bpe: hf.Tokenizer, *, context: int = 64):
        self.bpe, self.context = bpe, context
        self.pad, self.start, self.end = (bpe.token_to_id(t) for t in (PAD, START, END))
        if self.end != self.vocab_size - 1:
            raise ValueError(
                f"expected {END} to be the highest id, {self.vocab_size - 1}, got {self.end}"
            )
        if self.pad is None or self.start is None:
            raise ValueError(
                f"expected the marks {PAD} and {START} in the vocabulary, got a tokenizer without"
            )

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        patients: Iterable | None = None,
        min_patients: int = 5,
        public: Iterable[str] = (),
        vocab_size: int = 1024,
        context: int = 64,
    ) -> "Tokenizer":
        """Learn the merges; the same texts give the same tokenizer, in whatever order
        they come.

        A word that fewer than `min_patients` patients share (a surname, a number) is
        not learnt: it's encoded in pieces that others' words have, byte by byte at
        worst. What many share is learnt, a radiologist's signature, too.

        Args:
            texts: N texts to learn from. Case is dropped; any text can be encoded
                afterwards.
            patients: N identifiers; without them each different text counts as a
                patient of its own.
            min_patients: who must share a word. In a cohort of fewer no word is learnt,
                which a warning says.
            public: further texts that are nobody's, learnt whole.
            vocab_size: upper bound, at least 259 (256 bytes and three marks).
            context: longest sequence, tokens, start and end included; longer texts are
                cut before the end.
        """
        bpe = hf.Tokenizer(hf.models.BPE())
        bpe.normalizer = hf.normalizers.Sequence(
            [hf.normalizers.NFKC(), hf.normalizers.Lowercase()]
        )
        bpe.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=True)
        bpe.decoder = hf.decoders.ByteLevel()
        alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            special_tokens=[PAD],
            initial_alphabet=alphabet,
            show_progress=False,
        )
        texts = list(texts)
        patients = texts if patients is None else patients
        pairs = [
            (t, str(p))
            for t, p in zip(texts, patients, strict=True)
            if isinstance(t, str)
        ]
        texts, patients = [t for t, _ in pairs], [p for _, p in pairs]
        shared = shared_texts(texts, patients, min_patients, bpe)
        bpe.train_from_iterator(sorted([*shared, *map(str, public)]), trainer)
        bpe.add_special_tokens([START, END])
        return cls(bpe, context=context)

    @property
    def vocab_size(self) -> int:
        return self.bpe.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """One text -> its ids, with start and end, at most `context` of them."""
        ids = self.bpe.encode(text, add_special_tokens=False).ids
        return [self.start, *ids[: self.context - 2], self.end]

    def decode(self, ids: Iterable[int]) -> str:
        return self.bpe.decode([int(i) for i in ids], skip_special_tokens=True).strip()

    def __call__(self, texts: str | list[str]) -> torch.Tensor:
        texts = [texts] if isinstance(texts, str) else texts
        out = np.full((len(texts), self.context), self.pad)
        for row, text in zip(out, texts, strict=True):
            ids = self.encode(text)
            row[: len(ids)] = ids
        return torch.from_numpy(out)  # (K, context)

    def save(self, path: str | Path) -> None:
        self.bpe.save(str(path))

    @classmethod
    def load(cls, path: str | Path, *, context: int = 64) -> "Tokenizer":
        """Raises ValueError where the file is no tokenizer of this kind."""
        return cls(read_tokenizer(path), context=context)


def shared_texts(
    texts: list[str], patients: list[str], min_patients: int, bpe: hf.Tokenizer
) -> list[str]:
    """The texts without the words that fewer than `min_patients` patients share, each
    gap a line's end.

    Args:
        texts, patients: N each.
        bpe: its normaliser and pre-tokeniser say what a word is.
    Raises:
        ValueError: not one patient a text.
    """
    cut = [_words(text, bpe) for text in texts]
    owners = defaultdict(set)
    for (_, words), patient in zip(cut, patients, strict=True):
        for word, _ in words:
            owners[word].add(patient)
    if len(set(patients)) < min_patients:
        warnings.warn(
            f"{len(set(patients))} patients are fewer than the {min_patients} that must share a word: none is learnt, "
            "and texts are encoded byte by byte. Try more patients, or min_patients=1 where all texts are public.",
            stacklevel=3,
        )
    return [
        _kept(text, words, {w for w, _ in words if len(owners[w]) >= min_patients})
        for text, words in cut
    ]


def _words(text, bpe):
    """The normalised text, and (word, (start, end)) for each word in it, without the
    space before it.
    """
    normal = bpe.normalizer.normalize_str(text)
    pieces = hf.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(
        normal
    )
    return normal, [(piece.removeprefix("Ġ"), place) for piece, place in pieces]


def _kept(text, words, known):
    parts = []
    for word, (start, end) in words:
        if word in known:
            parts.append(text[start:end])
        elif not parts or parts[-1] != "\n":
            parts.append("\n")  # so that the words beside the gap don't grow together
    return "".join(parts)
