"""Recipes without pairs: images alone (MAE, SimCLR, DINO), reports alone."""

import copy
import math

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import repeat
from torch import nn

from radwb.pretrain import objectives
from radwb.pretrain.captions import Captions, whole
from radwb.pretrain.losses import retrieval
from radwb.pretrain.recipe import Recipe, mixed, patch_tokens, train_only


class MaskedImage(Recipe):
    """MAE's objective: hidden patches are made grey before the stem, and painted.

    They are not left out behind the stem: it is convolutional and mixes neighbouring
    patches, so a token left out would still be seen in the one beside it. So the pixels
    go, and a linear head paints them from the tokens, as in SimMIM (Xie et al. 2022,
    "SimMIM: a simple framework for masked image modeling", CVPR), with MAE's target,
    patches in units of their own deviation.
    """

    share = 0.6  # of the patches; SimMIM's choice

    def build(self):
        train_only(self.net, "visual.")
        self.patch = self.model.size // self.model.grid[0]
        self.head = nn.Linear(self.net.visual.output_dim, self.patch**2)

    def targets(self, rows, seed=0):
        """(B, T) bool, True where a patch is hidden."""
        tokens = math.prod(self.model.grid)
        seed = mixed(seed, self.rank)
        return (objectives.random_mask(len(rows), tokens, self.share, seed=seed),)

    def entering(self, x, mask):
        p = self.patch
        H, _ = self.model.grid
        hidden = repeat(mask, "b (h w) -> b 1 (h p) (w q)", h=H, p=p, q=p)
        return x.masked_fill(hidden, 0)  # mid-grey

    def forward(self, x, mask):
        _, tokens = patch_tokens(self.net, self.entering(x, mask))  # (B, T, E)
        return objectives.mae(self.head(tokens), x, mask, self.patch)


class Views(Recipe):
    """SimCLR: two views of an image find each other among those of the batch."""

    views = 2
    crop = 0.6
    whole_batch = True
    temperature = 0.1

    def guess(self, batch):
        return math.log(2 * batch - 1)

    def build(self):
        train_only(self.net, "visual.")
        E = self.net.visual.output_dim
        self.head = nn.Sequential(nn.Linear(E, E), nn.ReLU(), nn.Linear(E, 128))

    def represent(self, x):
        z = self.head(self.net.visual(torch.cat(x))).float()  # (2B, 128)
        return z.chunk(2)

    def loss_of(self, views):
        return objectives.simclr(*self.gather(*views), self.temperature)

    def validate(self, images, *, batch):
        """The loss, and how often the other view is the most similar one."""
        n = len(images)
        views = self.in_parts(lambda r: self.represent(self.two_views(images, r)), n)
        a, b = (F.normalize(z) for z in views)
        recall = retrieval(a.cpu(), b.cpu(), np.arange(n), k=(1,))

        def loss_of(rows):
            return self.loss_of((a[rows], b[rows]))

        return {
            "val_loss": self.mean_loss(n, loss_of, batch=batch),
            "view_recall_1": recall["image_to_text_recall_1"],
        }


class Prototypes(nn.Module):
    """DINO's head: a network to the unit sphere, then cosines with K prototypes."""

    def __init__(self, width: int, prototypes: int):
        super().__init__()
        layers = nn.Linear(width, width), nn.GELU(), nn.Linear(width, 64)
        self.body = nn.Sequential(*layers)
        self.prototypes = nn.Parameter(torch.randn(prototypes, 64))

    def forward(self, x):
        # a temperature of 0.04 magnifies what bf16 drops
        with torch.autocast(x.device.type, enabled=False):
            z = F.normalize(self.body(x.float()), dim=-1)
            return F.linear(z, F.normalize(self.prototypes, dim=-1))  # (B, K)


class Distilled(Recipe):
    """DINO: a student says of its view what its own moving average says of another.

    Two global views, no small crops. With `centring = False` it collapses: watch
    `teacher_entropy`, that of the teacher's mean answer, fall to 0.
    """

    views = 2
    crop = 0.6
    momentum = 0.95
    prototypes = 64
    centring = True

    def build(self):
        train_only(self.net, "visual.")
        self.head = Prototypes(self.net.visual.output_dim, self.prototypes)
        self.teacher = copy.deepcopy(self.student()).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(self.prototypes))
        self.answers = []  # the teacher's mean outputs since the last step

    def student(self):
        return nn.ModuleList([self.net.visual, self.head])

    def outputs(self, x):
        """Two views -> what student and teacher say, (2, B, K) each."""
        both = torch.cat(x)  # (2B, 1, S, S)
        student = self.head(self.net.visual(both))
        with torch.no_grad():
            visual, head = self.teacher.train(self.net.training)
            teacher = head(visual(both))
        return student.unflatten(0, (2, -1)), teacher.unflatten(0, (2, -1))

    def forward(self, x):
        student, teacher = self.outputs(x)
        self.answers.append(teacher.flatten(0, 1).mean(0))
        centre = self.centre if self.centring else None
        return objectives.dino(student, teacher, centre)

    @torch.no_grad()
    def after_step(self, progress=0.0):
        """Move the teacher to the student, ever less, and the centre to its answers.

        Caron et al., section 3.1.
        """
        step = (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
        momentum = 1 - step
        student = self.student()
        for old, new in zip(
            self.teacher.parameters(), student.parameters(), strict=True
        ):
            old.lerp_(new, 1 - momentum)
        for old, new in zip(self.teacher.buffers(), student.buffers(), strict=True):
            old.copy_(new)
        mean = torch.stack(self.answers).mean(0)  # (K,)
        if self.world > 1:
            dist.all_reduce(mean)
        self.centre.copy_(objectives.moved_centre(self.centre, mean[None] / self.world))
        self.answers.clear()

    def validate(self, images, *, batch):
        """The loss, and the entropy (nats) of the teacher's mean answer."""
        student, teacher = self.in_parts(
            lambda rows: self.outputs(self.two_views(images, rows)), len(images), dim=1
        )  # (2, N, K)
        centre = self.centre if self.centring else torch.zeros_like(self.centre)
        answer = ((teacher - centre) / 0.04).softmax(-1).mean((0, 1))  # (K,)
        return {
            "val_loss": float(objectives.dino(student, teacher, centre)),
            "teacher_entropy": float(objectives.entropy(answer)),
        }


class Words(Recipe):
    """The tokens of whole reports, cut at the context, and the text tower."""

    views = 0
    builds = "image-text"
    columns = ("report", "split")
    TOWER = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.")

    def read(self, table):
        self.captions = Captions(list(table["report"]), self.model.tokenizer, say=whole)

    def build(self):
        train_only(self.net, *self.TOWER)

    def targets(self, rows, seed=0):
        """(B, W) ids of the reports."""
        return (self.captions.tokens[self.captions.ids(rows)],)

    def logits(self, tokens, embeddings, attn_mask):
        """(B, W) ids -> (B, W, V), by the embeddings that the words came in with."""
        W = tokens.shape[1]
        x = F.embedding(tokens, embeddings) + self.net.positional_embedding[:W]
        x = self.net.transformer(x, attn_mask=attn_mask)  # (B, W, E)
        return self.net.ln_final(x) @ self.net.token_embedding.weight.T

    def validate(self, images, *, batch):
        loss = self.loss_without_pairs(None, len(self.captions.rows), batch=64)
        return {"val_loss": loss, "val_perplexity": math.exp(loss)}


class MaskedWord(Words):
    """BERT's objective: each word sees all others.

    The mask is a vector beside the vocabulary, and not saved.
    """

    def build(self):
        super().build()
        width = self.net.token_embedding.embedding_dim
        self.mask = nn.Parameter(0.02 * torch.randn(1, width))

    def targets(self, rows, seed=0):
        """(B, W) ids of the reports, those that are shown, and which are hidden."""
        (tokens,) = super().targets(rows)
        tokenizer = self.model.tokenizer
        special = (tokenizer.pad, tokenizer.start, tokenizer.end)
        generator = torch.Generator().manual_seed(mixed(seed, self.rank))
        vocab = tokenizer.vocab_size
        return tokens, *objectives.mask_tokens(
            tokens, vocab, generator, vocab=vocab, special=special
        )

    def terms(self, tokens, shown, masked):
        return masked.sum()

    def forward(self, x, tokens, shown, masked):
        heads = self.net.transformer.resblocks[0].attn.num_heads
        padding = tokens == self.model.tokenizer.pad  # (B, W)
        unread = repeat(padding, "b w -> (b h) v w", h=heads, v=tokens.shape[1])
        attn_mask = torch.zeros(unread.shape, device=tokens.device)
        attn_mask = attn_mask.masked_fill(unread, -math.inf)  # (B h, W, W)
        embeddings = torch.cat([self.net.token_embedding.weight, self.mask])
        logits = self.logits(shown, embeddings, attn_mask)
        return objectives.masked_lm(logits, tokens, masked)


class NextWord(Words):
    """GPT's objective: each word sees those before it."""

    def terms(self, tokens):
        return (tokens[:, 1:] != self.model.tokenizer.pad).sum()

    def forward(self, x, tokens):
        W = tokens.shape[1]
        attn_mask = self.net.attn_mask[:W, :W]
        logits = self.logits(tokens, self.net.token_embedding.weight, attn_mask)
        return objectives.causal_lm(logits, tokens, self.model.tokenizer.pad)
