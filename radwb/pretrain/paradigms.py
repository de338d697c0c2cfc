"""Pretraining without pairs: images alone (MAE, SimCLR, DINO), reports alone (masked
and next word). And `Recipe`.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from radwb.models.model import Model, squares
from radwb.models.tiny import seeded
from radwb.pretrain import objectives
from radwb.pretrain.augment import augment
from radwb.pretrain.captions import Captions, whole
from radwb.pretrain.losses import gather, retrieval


class Recipe(nn.Module):
    """A model, a table, and the loss of a batch: `forward(x, *targets(rows, seed))`.

    All that is trained beside the model (heads, decoders) is a sub-module here, and is
    not saved with the model.

    Attributes:
        views: 1, x is (B, 1, S, S), augmented and normalised; 2, x is two of these; 0,
            no images, x is None.
        crop: least share of a side that a view shows, for `augment`.
        builds: what `fit` starts from: "image-text" (clip_tiny), "findings" or "image"
            (supervised_tiny).
        columns: of the table, beside its findings.
        late: whether the run is far enough to be judged; the loop says so before it
            validates.
        whole_batch: the loss compares all of a batch, and forward is
            `loss_of(represent(x, *targets), *targets)`.
    """

    views, crop, builds, columns, whole_batch, late = (
        1,
        1.0,
        "image",
        ("split",),
        False,
        True,
    )

    def __init__(
        self, model: Model, table: pd.DataFrame, *, rank: int = 0, world: int = 1
    ):
        super().__init__()
        self.model, self.net, self.rank, self.world = model, model.net, rank, world
        self.read(table)
        with seeded(0):  # the heads
            self.build()

    def on(self, table: pd.DataFrame) -> "Recipe":
        """The same weights and heads over other rows, in one process: what validation
        asks.
        """
        other = copy.copy(self)
        other.rank, other.world = 0, 1
        other.read(table)
        return other

    def read(self, table: pd.DataFrame) -> None:
        """Keep what `targets` takes from the table, as plain tensors."""

    def build(self) -> None:
        """Make the heads, and freeze the part of the model that the loss doesn't reach."""

    def targets(self, rows, seed: int = 0) -> tuple[torch.Tensor, ...]:
        return ()

    def guess(self, batch: int) -> float | None:
        """The loss of a model that tells nothing apart, where that is known beforehand."""
        return None

    def terms(self, *targets) -> torch.Tensor | None:
        """How many terms the loss is the mean of; None where each sample has as many."""
        return None

    def after_step(self, progress: float = 0.0) -> None:
        """What follows a step of the optimiser; `progress` of the run goes from 0 to 1."""

    def forward(self, x, *targets):
        return self.loss_of(self.represent(x, *targets), *targets)

    def mean_loss(self, n: int, loss_of: Callable, *, batch: int) -> float:
        """The mean of `loss_of(rows)` over rows 0 to n - 1, `batch` at a time; what is
        left over counts by its size.
        """
        chunks = torch.arange(n).split(batch)
        return float(sum(float(loss_of(c)) * len(c) for c in chunks) / n)

    def two_views(self, images, rows, seed=0):
        x = squares(images[rows], self.model.size).to(self.model.device)
        views = (
            augment(x, seed=seed + v, crop=self.crop, first=int(rows[0]))
            for v in (1, 2)
        )
        return tuple(self.model.normalise(v) for v in views)


def inputs(model: Model, images: torch.Tensor) -> torch.Tensor:
    """(B, S, S) uint8 -> what the network takes, on its device."""
    return model.normalise(squares(images, model.size).to(model.device))


def patch_tokens(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 1, S, S) -> (B, E), as `encode_image` gives it, and the (B, T, E) of which it
    is the mean.
    """
    seen = net.visual.forward_intermediates(
        x, indices=1, normalize_intermediates=True, output_fmt="NLC"
    )
    return seen["image_features"], seen["image_intermediates"][-1] @ net.visual.proj


def only(net: nn.Module, *parts: str) -> None:
    """Train these parts of a network and freeze the rest, which the loss doesn't reach
    (DDP wants to know).
    """
    names = [name for name, _ in net.named_parameters()]
    missing = [
        part for part in parts if not any(name.startswith(part) for name in names)
    ]
    if missing:
        raise ValueError(
            f"expected a network with {', '.join(missing)}, got a {type(net).__name__} without. "
            "Try rw.models.clip_tiny or rw.models.supervised_tiny."
        )
    for name, p in net.named_parameters():
        p.requires_grad_(name.startswith(parts))


class MaskedImage(Recipe):
    """MAE's objective under this tower: hidden patches are made grey *before* the stem,
    not left out behind it.

    The convolutional stem mixes neighbouring patches, so a token left out would still
    be seen in the one beside it; so the pixels go, and a linear head paints them from
    the tokens, as in SimMIM (Xie et al. 2022, "SimMIM: a simple framework for masked
    image modeling", CVPR), with MAE's target, patches in units of their own deviation.
    """

    share = 0.6  # of the patches; SimMIM's choice

    def build(self):
        only(self.net, "visual.")
        self.patch = self.model.size // self.model.grid[0]
        self.head = nn.Linear(self.net.visual.output_dim, self.patch**2)

    def targets(self, rows, seed=0):
        mixed = int(np.random.SeedSequence((seed, self.rank)).generate_state(1)[0])
        return (
            objectives.random_mask(
                len(rows), math.prod(self.model.grid), self.share, seed=mixed
            ),
        )

    def forward(self, x, mask):
        hidden = mask.view(-1, 1, *self.model.grid)  # (B, 1, H, W)
        hidden = hidden.repeat_interleave(self.patch, 2).repeat_interleave(
            self.patch, 3
        )  # (B, 1, S, S)
        _, tokens = patch_tokens(
            self.net, x.masked_fill(hidden, 0)
        )  # (B, T, E); 0 is mid-grey
        return objectives.mae(self.head(tokens), x, mask, self.patch)

    def validate(self, images: torch.Tensor, *, batch: int) -> dict[str, float]:
        (mask,) = self.targets(range(len(images)))
        mask = mask.to(self.model.device)
        loss = lambda rows: self.forward(inputs(self.model, images[rows]), mask[rows])  # noqa: E731
        return {"val_loss": self.mean_loss(len(images), loss, batch=32)}


class Views(Recipe):
    """SimCLR: two views of an image find each other among those of the batch."""

    views, crop, whole_batch, temperature = 2, 0.6, True, 0.1

    def guess(self, batch):
        return math.log(2 * batch - 1)

    def build(self):
        only(self.net, "visual.")
        E = self.net.visual.output_dim
        self.head = nn.Sequential(nn.Linear(E, E), nn.ReLU(), nn.Linear(E, 128))

    def represent(self, x):
        z = self.head(self.net.visual(torch.cat(list(x)))).float()  # (2B, 128)
        return z.chunk(2)

    def loss_of(self, views):
        return objectives.simclr(
            *(gather(z, self.world) for z in views), self.temperature
        )

    def validate(self, images: torch.Tensor, *, batch: int) -> dict[str, float]:
        parts = [
            self.represent(self.two_views(images, rows))
            for rows in torch.arange(len(images)).split(32)
        ]
        a, b = (F.normalize(torch.cat(z), dim=-1) for z in zip(*parts, strict=True))
        loss = self.mean_loss(
            len(a),
            lambda rows: objectives.simclr(a[rows], b[rows], self.temperature),
            batch=batch,
        )
        found = retrieval(a.cpu(), b.cpu(), np.arange(len(a)), k=(1,))
        return {"val_loss": loss, "view_recall_1": found["image_to_text_recall_1"]}


class Prototypes(nn.Module):
    """DINO's head: a small network to the unit sphere, then cosines with K prototypes.
    (B, E) -> (B, K)
    """

    def __init__(self, width: int, prototypes: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, 64)
        )
        self.prototypes = nn.Parameter(torch.randn(prototypes, 64))

    def forward(self, x):
        with torch.autocast(
            x.device.type, enabled=False
        ):  # a temperature of 0.04 magnifies what bf16 drops
            return F.linear(
                F.normalize(self.body(x.float()), dim=-1),
                F.normalize(self.prototypes, dim=-1),
            )


class Distilled(Recipe):
    """DINO: a student says of its view what its own moving average says of another. Two
    global views, no small crops.

    With `centring = False` it collapses: watch `teacher_entropy`, that of the teacher's
    mean answer, fall to 0.
    """

    views, crop, momentum, prototypes, centring = 2, 0.6, 0.95, 64, True

    def build(self):
        only(self.net, "visual.")
        self.head = Prototypes(self.net.visual.output_dim, self.prototypes)
        self.teacher = copy.deepcopy(
            nn.ModuleList([self.net.visual, self.head])
        ).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(self.prototypes))
        self.seen = []  # the teacher's mean outputs since the last step

    def outputs(self, x):
        """Two views -> what student and teacher say, (2, B, K) each."""
        both = torch.cat(list(x))  # (2B, 1, S, S)
        student = self.head(self.net.visual(both))
        with torch.no_grad():
            visual, head = self.teacher.train(self.net.training)
            teacher = head(visual(both))
        return (y.unflatten(0, (2, -1)) for y in (student, teacher))

    def forward(self, x):
        student, teacher = self.outputs(x)
        self.seen.append(teacher.flatten(0, 1).mean(0))
        return objectives.dino(student, teacher, self.centre if self.centring else None)

    @torch.no_grad()
    def after_step(self, progress=0.0):
        """Move the teacher towards the student, ever less, and the centre to its
        answers (Caron et al., 3.1).
        """
        m = 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
        student = nn.ModuleList([self.net.visual, self.head])
        for old, new in zip(
            self.teacher.parameters(), student.parameters(), strict=True
        ):
            old.lerp_(new, 1 - m)
        for old, new in zip(self.teacher.buffers(), student.buffers(), strict=True):
            old.copy_(new)
        mean = torch.stack(self.seen).mean(0)  # (K,)
        if self.world > 1:
            dist.all_reduce(mean)
        self.centre.copy_(objectives.moved_centre(self.centre, mean[None] / self.world))
        self.seen.clear()

    def validate(self, images: torch.Tensor, *, batch: int) -> dict[str, float]:
        parts = [
            list(self.outputs(self.two_views(images, r)))
            for r in torch.arange(len(images)).split(32)
        ]
        student, teacher = (
            torch.cat(y, 1) for y in zip(*parts, strict=True)
        )  # (2, N, K)
        centre = self.centre if self.centring else torch.zeros_like(self.centre)
        p = ((teacher - centre) / 0.04).softmax(-1).mean((0, 1))  # (K,)
        return {
            "val_loss": float(objectives.dino(student, teacher, centre)),
            "teacher_entropy": float(objectives.entropy(p)),
        }


class Words(Recipe):
    """What the two text recipes share: the tokens of whole reports, cut at the context,
    and the text tower.
    """

    views, builds, columns = 0, "image-text", ("report", "split")
    TOWER = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.")

    def read(self, table):
        self.captions = Captions(list(table["report"]), self.model.tokenizer, say=whole)

    def build(self):
        only(self.net, *self.TOWER)

    def logits(self, tokens, table, attn_mask):
        """(B, W) ids -> (B, W, V), by the embeddings that the words came in with."""
        x = (
            F.embedding(tokens, table)
            + self.net.positional_embedding[: tokens.shape[1]]
        )  # (B, W, E)
        x = self.net.ln_final(self.net.transformer(x, attn_mask=attn_mask))
        return x @ self.net.token_embedding.weight.T

    def validate(self, images, *, batch: int) -> dict[str, float]:
        targets = [
            t.to(self.model.device)
            for t in self.targets(range(len(self.captions.rows)))
        ]
        loss = self.mean_loss(
            len(targets[0]),
            lambda rows: self(None, *(t[rows] for t in targets)),
            batch=64,
        )
        return {"val_loss": loss, "val_perplexity": math.exp(loss)}


class MaskedWord(Words):
    """BERT's objective: each word sees all others. The mask is a vector beside the
    vocabulary, and not saved.
    """

    def build(self):
        super().build()
        self.mask = nn.Parameter(
            0.02 * torch.randn(1, self.net.token_embedding.embedding_dim)
        )

    def targets(self, rows, seed=0):
        own, tokenizer = (
            self.captions.tokens[self.captions.ids(rows)],
            self.model.tokenizer,
        )
        rng = torch.Generator().manual_seed(
            int(np.random.SeedSequence((seed, self.rank)).generate_state(1)[0])
        )
        special = (tokenizer.pad, tokenizer.start, tokenizer.end)
        vocab = tokenizer.vocab_size
        return own, *objectives.mask_tokens(
            own, vocab, rng, vocab=vocab, special=special
        )

    def terms(self, tokens, shown, masked):
        return masked.sum()

    def forward(self, x, tokens, shown, masked):
        B, W = tokens.shape
        heads = self.net.transformer.resblocks[0].attn.num_heads
        blind = (
            (tokens == self.model.tokenizer.pad)[:, None, None]
            .expand(B, heads, W, W)
            .flatten(0, 1)
        )  # (B*h, W, W)
        blind = torch.zeros(blind.shape, device=tokens.device).masked_fill(
            blind, -math.inf
        )
        logits = self.logits(
            shown, torch.cat([self.net.token_embedding.weight, self.mask]), blind
        )
        return objectives.masked_lm(logits, tokens, masked)


class NextWord(Words):
    """GPT's objective: each word sees those before it."""

    def targets(self, rows, seed=0):
        return (self.captions.tokens[self.captions.ids(rows)],)

    def terms(self, tokens):
        return (tokens[:, 1:] != self.model.tokenizer.pad).sum()

    def forward(self, x, tokens):
        W = tokens.shape[1]
        logits = self.logits(
            tokens, self.net.token_embedding.weight, self.net.attn_mask[:W, :W]
        )
        return objectives.causal_lm(logits, tokens, self.model.tokenizer.pad)
