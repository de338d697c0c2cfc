"""A byte-level BPE that is trained on the reports themselves, in the form that open_clip's text tower expects."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tokenizers as hf
import torch

PAD, START, END = "<pad>", "<start>", "<end>"


class Tokenizer:
    """Texts -> (K, context) token ids: start, words, end, then padding.

    >>> Tokenizer.train(["no effusion", "small right effusion"])(["right effusion"]).shape
    torch.Size([1, 64])

    The end token has the highest id, since open_clip's text tower pools at `ids.argmax(-1)`.
    """

    def __init__(self, bpe: hf.Tokenizer, *, context: int = 64):
        self.bpe, self.context = bpe, context
        self.pad, self.start, self.end = (bpe.token_to_id(t) for t in (PAD, START, END))
        if self.end != self.vocab_size - 1:
            raise ValueError(f"expected {END} to be the highest id, {self.vocab_size - 1}, got {self.end}")

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int = 1024, context: int = 64) -> "Tokenizer":
        """Learn the merges; the same texts give the same tokenizer, in whatever order they come.

        Args:
            texts: what to learn from. Case is dropped; any text can be encoded afterwards, byte by byte at worst.
            vocab_size: upper bound, at least 259 (256 bytes and three marks).
            context: longest sequence, tokens, start and end included; longer texts are cut before the end.
        """
        bpe = hf.Tokenizer(hf.models.BPE())
        bpe.normalizer = hf.normalizers.Sequence([hf.normalizers.NFKC(), hf.normalizers.Lowercase()])
        bpe.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=True)
        bpe.decoder = hf.decoders.ByteLevel()
        alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=vocab_size - 2, special_tokens=[PAD], initial_alphabet=alphabet, show_progress=False
        )
        bpe.train_from_iterator(sorted(t for t in texts if isinstance(t, str)), trainer)
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
        return cls(hf.Tokenizer.from_file(str(path)), context=context)
