"""A byte-level BPE trained on the reports, in the form that open_clip's tower reads."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import tokenizers as hf
import torch

from radwb.models.checks import read_tokenizer

PAD = "<pad>"
START = "<start>"
END = "<end>"


class Tokenizer:
    """Texts -> (K, context) token ids: start, words, end, then padding.

    >>> tokenizer = Tokenizer.train(["no effusion", "an effusion"], min_patients=1)
    >>> tokenizer(["effusion"]).shape
    torch.Size([1, 64])

    The end token has the highest id, since open_clip's text tower pools at
    `ids.argmax(-1)`.
    """

    def __init__(self, bpe: hf.Tokenizer, *, context: int = 64):
        self.bpe = bpe
        self.context = context
        self.pad = bpe.token_to_id(PAD)
        self.start = bpe.token_to_id(START)
        self.end = bpe.token_to_id(END)
        highest = self.vocab_size - 1
        if self.end != highest:
            raise ValueError(
                f"expected {END} to be the highest id, {highest}, got {self.end}"
            )
        if self.pad is None or self.start is None:
            raise ValueError(
                f"expected the marks {PAD} and {START} in the vocabulary, got a "
                "tokenizer without"
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
        """Learn the merges; the order of the texts makes no difference.

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
        bpe = _untrained()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            special_tokens=[PAD],
            initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        texts = list(texts)
        patients = texts if patients is None else patients
        pairs = [
            (text, str(patient))
            for text, patient in zip(texts, patients, strict=True)
            if isinstance(text, str)
        ]
        shared = shared_texts(pairs, min_patients, bpe)
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
        sentences = [texts] if isinstance(texts, str) else texts
        ids = [self.encode(text) for text in sentences]
        return id_matrix(ids, self.context, self.pad)  # (K, context)

    def save(self, path: str | Path) -> None:
        self.bpe.save(str(path))

    @classmethod
    def load(cls, path: str | Path, *, context: int = 64) -> "Tokenizer":
        """Raises ValueError where the file is no tokenizer of this kind."""
        return cls(read_tokenizer(path), context=context)


def id_matrix(rows: list[list[int]], width: int, pad: int) -> torch.Tensor:
    """K lists of token ids as one (K, width) int64 matrix, padded on the right."""
    matrix = torch.full((len(rows), width), pad)
    for row, ids in zip(matrix, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return matrix


def _untrained():
    bpe = hf.Tokenizer(hf.models.BPE())
    to_lower = [hf.normalizers.NFKC(), hf.normalizers.Lowercase()]
    bpe.normalizer = hf.normalizers.Sequence(to_lower)
    bpe.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = hf.decoders.ByteLevel()
    return bpe


def shared_texts(
    pairs: list[tuple[str, str]], min_patients: int, bpe: hf.Tokenizer
) -> list[str]:
    """The texts without the words that fewer than `min_patients` patients share.

    Args:
        pairs: N (text, patient).
        bpe: its normaliser and pre-tokeniser say what a word is.
    Returns:
        N texts, each gap a line's end.
    """
    split = [_words(text, bpe) for text, _ in pairs]
    patients_of = defaultdict(set)
    for (_, words), (_, patient) in zip(split, pairs, strict=True):
        for word, _ in words:
            patients_of[word].add(patient)
    n = len({patient for _, patient in pairs})
    if n < min_patients:
        warnings.warn(
            f"{n} patients are fewer than the {min_patients} that must share a word: "
            "none is learnt, and texts are encoded byte by byte. Try more patients, "
            "or min_patients=1 where all texts are public.",
            stacklevel=3,
        )
    shared = {w for w, patients in patients_of.items() if len(patients) >= min_patients}
    return [_with_gaps(text, words, shared) for text, words in split]


def _words(text, bpe):
    """The normalised text, and (word, (start, end)) of each word, without its space."""
    normal = bpe.normalizer.normalize_str(text)
    split = hf.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    return normal, [(piece.removeprefix("Ġ"), place) for piece, place in split(normal)]


def _with_gaps(text, words, shared):
    parts = []
    for word, (start, end) in words:
        if word in shared:
            parts.append(text[start:end])
        elif not parts or parts[-1] != "\n":
            parts.append("\n")  # so that the words beside the gap don't grow together
    return "".join(parts)
