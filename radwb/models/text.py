"""Frozen text: BERT in plain torch, the sentence encoder MiniLM, and a CLIP on it.

BERT is radwb's own since transformers is no dependency: a hundred lines read any BERT.
"""

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from radwb.models.checks import outline, read_tokenizer
from radwb.models.hub import published_folder
from radwb.models.model import Model
from radwb.models.sources import fill, read_weights, renamed
from radwb.models.tiny import (
    GREY,
    LICENCE,
    NO_TEXT,
    SHAPE,
    full_shape,
    seeded,
    tiny_clip,
)
from radwb.models.tokenizer import id_matrix

HEADS = 12  # of BERT-base and of MiniLM; the weights' shapes don't tell
PAD = 0
BERT_SHAPES = (
    "words.weight",
    "places.weight",
    "kinds.weight",
    "layers.0.linear1.weight",
)
BERT_KEYS = [
    (r"^bert\.", ""),
    (r"^embeddings\.word_embeddings\.weight", "words.weight"),
    (r"^embeddings\.position_embeddings\.weight", "places.weight"),
    (r"^embeddings\.token_type_embeddings\.weight", "kinds.weight"),
    (r"^embeddings\.LayerNorm\.", "norm."),
    (r"^encoder\.layer\.", "layers."),
    (r"attention\.self\.", "self_attn."),
    (r"attention\.output\.dense", "self_attn.out_proj"),
    (r"attention\.output\.LayerNorm", "norm1"),
    (r"intermediate\.dense", "linear1"),
    (r"output\.dense", "linear2"),
    (r"output\.LayerNorm", "norm2"),
]


class WordPieces:
    """Texts -> (K, longest) ids of a BERT, padded with 0, cut to `context` tokens.

    Args:
        path: of a tokenizer.json.
    """

    def __init__(self, path: str | Path, *, context: int):
        self.pieces = read_tokenizer(path)
        self.context = context
        self.pieces.no_padding()
        self.pieces.enable_truncation(context)

    def __call__(self, texts: str | list[str]) -> torch.Tensor:
        sentences = [texts] if isinstance(texts, str) else list(texts)
        ids = [encoding.ids for encoding in self.pieces.encode_batch(sentences)]
        return id_matrix(ids, max(map(len, ids), default=1), PAD)  # (K, T)

    def save(self, path: str | Path) -> None:
        self.pieces.save(str(path))


class Bert(nn.Module):
    """Devlin et al. 2019, without heads: torch's encoder layers on three embeddings.

    >>> bert = Bert(vocab=30, width=24, layers=1, hidden=48, context=16)
    >>> states, real = bert(torch.tensor([[2, 7, 3], [2, 3, 0]]))
    >>> states.shape, real.sum(1)
    (torch.Size([2, 3, 24]), tensor([3, 2]))
    """

    def __init__(
        self,
        *,
        vocab: int,
        width: int,
        layers: int,
        hidden: int,
        context: int,
        heads: int = HEADS,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(
                f"expected a BERT of {heads} heads, whose width is a multiple of "
                f"that, got width {width}"
            )
        self.words = nn.Embedding(vocab, width)
        self.places = nn.Embedding(context, width)
        self.kinds = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        options = {"dropout": 0, "activation": "gelu", "layer_norm_eps": 1e-12}
        self.layers = nn.ModuleList()
        for _ in range(layers):
            layer = nn.TransformerEncoderLayer(
                width, heads, hidden, batch_first=True, **options
            )
            self.layers.append(layer)

    @classmethod
    def of(
        cls,
        state: dict[str, torch.Tensor],
        source: object = "its weights",
        heads: int = HEADS,
    ) -> "Bert":
        """The network that a state dict belongs to, filled.

        Args:
            state: Hugging Face's BertModel's or ours; position ids and the pooler are
                left out.
            heads: 12 in BERT-base and in MiniLM; the weights' shapes don't tell.
        """
        state = renamed(state, BERT_KEYS, "{}.in_proj_{}")
        unused = ("pooler.", "embeddings.position_ids")
        state = {k: t for k, t in state.items() if not k.startswith(unused)}
        missing = set(BERT_SHAPES) - set(state)
        if missing or len(state["kinds.weight"]) != 2:
            got = f"one without {', '.join(sorted(missing))}"
            if not missing:
                got = "a RoBERTa"
            raise ValueError(f"expected a BERT in {source}, got {got}")
        vocab, width = state["words.weight"].shape
        sizes = {
            "vocab": vocab,
            "width": width,
            "layers": len({k.split(".")[1] for k in state if k.startswith("layers.")}),
            "hidden": len(state["layers.0.linear1.weight"]),
            "context": len(state["places.weight"]),
            "heads": heads,
        }
        make = partial(cls, **sizes)
        outline(make, source)  # refused before it takes memory
        net = make()
        fill(net, state, source)
        return net.eval()

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(K, T) ids -> last hidden states, cut to the longest text's t tokens.

        Returns:
            (K, t, W) states, and (K, t) which tokens are real.
        """
        real = ids != PAD
        longest = int(real.sum(1).max())
        real = real[:, :longest]
        words = self.words(ids[:, :longest])  # (K, t, W)
        x = self.norm(words + self.places.weight[:longest] + self.kinds.weight[0])
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~real)
        return x, real

    def mean(self, ids: torch.Tensor) -> torch.Tensor:
        """(K, T) ids -> (K, W), the mean over the real tokens."""
        x, real = self(ids)
        return (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)


class MiniLM:
    """all-MiniLM-L6-v2, a frozen sentence encoder (Reimers and Gurevych 2019).

    22.7 M parameters; `rw.models.load("minilm")` gives it.
    """

    name = "minilm"
    kind = "text"
    width = 384
    licence = "Apache-2.0"

    def __init__(self, *, download: bool = False):
        folder = published_folder("minilm", download=download)
        # its sentence_bert_config.json says 256
        self.tokenizer = WordPieces(folder / "tokenizer.json", context=256)
        state = read_weights(folder / "model.safetensors")
        self.net = Bert.of(state, folder).requires_grad_(False)

    @torch.no_grad()
    def encode_text(self, texts: str | list[str]) -> torch.Tensor:
        """K texts -> (K, 384) of unit length, each cut to 256 tokens."""
        ids = self.tokenizer(texts).to(self.device)
        if not len(ids):
            return torch.zeros(0, self.width)
        # texts of like length together: little is padded
        order = (ids != PAD).sum(1).argsort()
        parts = [self.net.mean(ids[rows]) for rows in order.split(128)]
        return F.normalize(torch.cat(parts)[order.argsort()], dim=-1)

    @property
    def device(self) -> torch.device:
        return self.net.words.weight.device

    def to(self, device) -> "MiniLM":
        self.net.to(device)
        return self


class FrozenText(nn.Module):
    """A text tower that learns a linear map only, behind a frozen sentence encoder.

    The encoder is no part of the state dict, so that a run holds its weights not a
    second time. A text is encoded once in the life of the tower, in float32.
    """

    def __init__(self, encoder: Bert, outputs: int):
        super().__init__()
        # in a list: torch doesn't count it among the parameters
        self._encoder = [encoder]
        self._points: dict[bytes, torch.Tensor] = {}
        self.projection = nn.Linear(encoder.norm.weight.shape[0], outputs, bias=False)

    def _apply(self, function, *args, **kwargs):
        self._points.clear()
        self._encoder[0]._apply(function)
        return super()._apply(function, *args, **kwargs)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.projection(self.frozen(ids))  # (K, T) -> (K, E)

    @torch.no_grad()
    def frozen(self, ids: torch.Tensor) -> torch.Tensor:
        """(K, T) ids -> (K, 384) of unit length."""
        keys = [row[row != PAD].tobytes() for row in ids.cpu().numpy()]
        new = {key: row for row, key in enumerate(keys) if key not in self._points}
        if new:
            rows = ids[list(new.values())]
            with torch.autocast(ids.device.type, enabled=False):
                points = F.normalize(self._encoder[0].mean(rows), dim=-1)
            self._points.update(zip(new, points, strict=True))
        return torch.stack([self._points[key] for key in keys])


class ClipOnText(nn.Module):
    """An image tower that learns to meet a frozen text tower, as CLIP's two meet."""

    def __init__(self, visual: nn.Module, text: FrozenText):
        super().__init__()
        self.visual = visual
        self.text = text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, x):
        return self.visual(x)

    def encode_text(self, tokens):
        return self.text(tokens)


def clip_on_minilm(
    *,
    shape: dict | None = None,
    seed: int = 0,
    name: str = "clip-on-minilm",
    download: bool = False,
) -> Model:
    """The image tower of `clip_tiny`, its weights drawn alike, on MiniLM's sentences.

    Args:
        shape: what differs from `rw.models.tiny.SHAPE`.
        seed: of the image tower and of the projection.
        download: leave to get MiniLM where it isn't here.
    """
    frozen = MiniLM(download=download)
    shape = full_shape(SHAPE, shape)
    visual = tiny_clip(shape, NO_TEXT, seed).visual
    with seeded(seed):
        net = ClipOnText(visual, FrozenText(frozen.net, shape["embed"]))
    return Model(
        net,
        name,
        "image-text",
        shape["size"],
        **GREY,
        grid=visual.grid_size,
        spec={"builder": "clip-on-minilm", "shape": shape},
        tokenizer=frozen.tokenizer,
        licence=LICENCE,
    )
