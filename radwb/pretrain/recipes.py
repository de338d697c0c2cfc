"""Recipes are modules whose forward is the loss of a batch: here images against texts,
and supervised; and their list.

`paradigms` holds those that learn from images alone or from reports alone, and what all
of them are, `Recipe`.
"""

import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from radwb import data
from radwb.models.model import image_features, text_features
from radwb.pretrain import objectives
from radwb.pretrain.captions import Captions, caption_of, sentences
from radwb.pretrain.diagnose import Watch
from radwb.pretrain.losses import (
    SameCaptionLoss,
    gather,
    known,
    masked_bce,
    retrieval,
    same_captions,
)
from radwb.pretrain.paradigms import (
    Distilled,
    MaskedImage,
    MaskedWord,
    NextWord,
    Recipe,
    Views,
    inputs,
    patch_tokens,
)


class Contrastive(Recipe):
    """CLIP's objective on images and captions, equal captions being right for each
    other.
    """

    builds, columns, whole_batch = "image-text", ("report", "split"), True

    def read(self, table):
        self.captions = Captions(list(table["report"]), self.model.tokenizer)
        self.watch = Watch(
            self.captions.rows, patience=1
        )  # no memory, so that a resumed run has the same log

    def targets(self, rows, seed=0) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.captions.ids(rows)
        return self.captions.tokens[ids], ids

    def represent(self, x, tokens, ids):
        return self.image_points(x), self.text_points(tokens)

    def loss_of(self, points, tokens, ids):
        return self.loss(*points, ids)

    def guess(self, batch):
        return math.log(batch)

    def image_points(self, x):
        return F.normalize(image_features(self.net, x).float(), dim=-1)  # (B, E)

    def text_points(self, tokens):
        return F.normalize(text_features(self.net, tokens).float(), dim=-1)  # (B, E)

    def loss(self, images, texts, ids):
        with torch.autocast(
            images.device.type, enabled=False
        ):  # bf16 logits would be off by up to 0.4
            criterion = SameCaptionLoss(rank=self.rank, world_size=self.world)
            return criterion(images, texts, self.net.logit_scale.exp(), ids)

    def after_step(self, progress=0.0):
        """CLIP's bound on the temperature."""
        with torch.no_grad():
            self.net.logit_scale.clamp_(0, np.log(100))

    def validate(self, images: torch.Tensor, *, batch: int) -> dict[str, float]:
        """Loss and retrieval on the first captions of held-out rows; `on` makes the
        recipe that is asked.
        """
        rows = np.arange(len(images))
        tokens, ids = (t.to(self.model.device) for t in self.targets(rows))
        parts = [
            self.represent(inputs(self.model, images[c]), tokens[c], ids[c])
            for c in torch.tensor(rows).split(32)
        ]
        points = [torch.cat(p) for p in zip(*parts, strict=True)]
        whole = len(rows) // batch * batch or len(rows)
        chunks = torch.arange(whole).split(batch)
        losses = [
            self.loss_of([p[c] for p in points], tokens[c], ids[c]).item()
            for c in chunks
        ]
        return {"val_loss": float(np.mean(losses))} | self.seen(
            points[0].cpu(), points[1].cpu(), ids.cpu()
        )

    def seen(self, images, texts, ids):
        """What (N, E) points of held-out rows tell: retrieval, signs of a collapse, and
        eight pairs to look at.
        """
        eight = np.sort(np.unique(ids, return_index=True)[1])[:8]
        found = retrieval(images, texts, ids) | self.watch(
            images, texts, late=self.late
        )
        return found | {"similarity": (images[eight] @ texts[eight].T).tolist()}


class Sigmoid(Contrastive):
    """SigLIP's objective on images and captions; equal captions are a yes. The bias
    isn't saved.
    """

    def build(self):
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def guess(self, batch):
        return None

    def loss(self, images, texts, ids):
        images, texts, ids = (gather(t, self.world) for t in (images, texts, ids))
        same = ids[:, None] == ids[None]
        return objectives.siglip(
            images, texts, self.net.logit_scale.exp(), self.bias, same=same
        )


class Local(Contrastive):
    """CLIP's objective and GLoRIA's word-region term, both in the space that
    `encode_image` and `encode_text` give.

    Patches and words go through the towers' own projections, so that a trained model
    can be asked where a word lies. Words are the tokenizer's pieces, and the end token,
    which has read them all.
    """

    weight = 1.0

    def guess(self, batch):
        return 2 * math.log(batch)  # of both terms

    def read(self, table):
        super().read(table)
        longest = (
            int(self.captions.tokens.argmax(-1).max()) + 1
        )  # the same for each batch, so that processes agree
        self.captions.tokens = self.captions.tokens[:, :longest]

    def represent(self, x, tokens, ids):
        """(B, E) images, (B, E) texts, (B, T, E) patches, (B, W, E) words."""
        images, patches = patch_tokens(self.net, x)
        net, W = self.net, tokens.shape[1]
        words = net.token_embedding(tokens) + net.positional_embedding[:W]
        words = (
            net.ln_final(net.transformer(words, attn_mask=net.attn_mask[:W, :W]))
            @ net.text_projection
        )
        texts = words[
            torch.arange(len(words), device=words.device), tokens.argmax(-1)
        ]  # (B, E)
        return (
            *(F.normalize(p.float(), dim=-1) for p in (images, texts)),
            patches.float(),
            words.float(),
        )

    def loss_of(self, points, tokens, ids):
        images, texts, patches, words = points
        mask = (tokens != self.model.tokenizer.pad) & (
            tokens != self.model.tokenizer.start
        )  # (B, W)
        patches, words, mask, every = (
            gather(t, self.world) for t in (patches, words, mask, ids)
        )
        where = objectives.local(patches, words, mask, targets=same_captions(every))
        return self.loss(images, texts, ids) + self.weight * where


class Sentences(Contrastive):
    """CLIP's objective on images and the sentences of their reports, each right for
    every image whose report has it.

    A prompt is a sentence, and here the model meets sentences alone, beside whole
    impressions: a finding that shares its impression with three others is asked for by
    itself. Many may be right (Yang et al. 2022, "Unified contrastive learning in
    image-text-label space", CVPR): each row of the targets shares its weight among
    them.
    """

    # drawn of a report at a step, the impression among them; a short report repeats its
    # own
    each = 4

    def read(self, table):
        super().read(table)  # whole impressions: what retrieval is measured on
        said = [{caption_of(r), *sentences(r)} for r in table["report"]]
        texts = sorted(set().union(*said))
        number = {text: i for i, text in enumerate(texts)}
        self.spoken = self.model.tokenizer(texts)  # (U, context)
        own = [sorted(number[t] for t in some) for some in said]
        self.counts = torch.tensor([len(some) for some in own])  # (N,)
        self.own = torch.full(
            (len(own), int(self.counts.max())), -1
        )  # (N, M) which sentences a report has
        for row, some in zip(self.own, own, strict=True):
            row[: len(some)] = torch.tensor(some)

    def targets(self, rows, seed=0):
        rows = torch.as_tensor(rows)
        own, counts = self.own[rows], self.counts[rows]  # (B, M), (B,)
        keys = torch.rand(
            self.own.shape, generator=torch.Generator().manual_seed(seed)
        )  # by row, whatever the share
        keys = keys[rows].masked_fill(own < 0, 2.0)
        place = torch.arange(self.each) % counts[:, None]  # (B, each)
        drawn = own.gather(1, keys.argsort(1).gather(1, place))  # (B, each)
        return self.spoken[drawn], drawn, own

    def guess(self, batch):
        """ln(B) for a sentence among the images, ln(B * each) for an image among the
        sentences.
        """
        return math.log(batch) + math.log(self.each) / 2

    def represent(self, x, tokens, drawn, own):
        """(B, E) images, (B, each, E) sentences, of which equal ones are encoded once."""
        _, first, back = np.unique(drawn.cpu(), return_index=True, return_inverse=True)
        texts = self.text_points(tokens.flatten(0, 1)[first])
        return self.image_points(x), texts[
            torch.as_tensor(back.reshape(drawn.shape), device=texts.device)
        ]

    def loss_of(self, points, tokens, drawn, own):
        images, texts, drawn, own = (
            gather(t, self.world) for t in (*points, drawn, own)
        )
        right = (own[:, :, None] == drawn.flatten()).any(1).float()  # (B, B * each)
        with torch.autocast(images.device.type, enabled=False):
            logits = (
                self.net.logit_scale.exp() * images @ texts.flatten(0, 1).T
            )  # (B, B * each)
            per_image = F.cross_entropy(logits, right / right.sum(1, keepdim=True))
            per_text = F.cross_entropy(logits.T, (right / right.sum(0)).T)
        return (per_image + per_text) / 2

    def validate(self, images, *, batch):
        rows, device = torch.arange(len(images)), self.model.device
        parts = [
            self.image_points(inputs(self.model, images[c])) for c in rows.split(32)
        ]
        points, ids = torch.cat(parts), self.captions.ids(rows)
        targets = [t.to(device) for t in self.targets(rows)]
        _, texts = self.represent(inputs(self.model, images[:1]), *targets)
        loss = lambda c: self.loss_of((points[c], texts[c]), *(t[c] for t in targets))  # noqa: E731
        whole = self.text_points(self.captions.tokens.to(device))[
            self.captions.rows.to(device)
        ]
        found = self.seen(points.cpu(), whole.cpu(), ids)
        return {
            "val_loss": self.mean_loss(
                len(images) // batch * batch or len(images), loss, batch=batch
            )
        } | found


class Supervised(Recipe):
    """Binary cross-entropy on the table's finding columns."""

    builds = "findings"

    def read(self, table):
        labels = (
            table[self.model.findings]
            .apply(pd.to_numeric)
            .to_numpy(np.float32, copy=True)
        )
        self.labels = torch.from_numpy(labels)  # (N, K)

    def targets(self, rows, seed=0) -> tuple[torch.Tensor]:
        return (self.labels[rows],)

    def terms(self, labels):
        return known(labels).sum()

    def forward(self, x, labels):
        return masked_bce(self.net(x).float(), labels)

    def validate(self, images: torch.Tensor, *, batch: int) -> dict[str, float]:
        x = [
            self.net(inputs(self.model, images[i : i + 32])).float().cpu()
            for i in range(0, len(images), 32)
        ]
        some = known(self.labels)
        losses = F.binary_cross_entropy_with_logits(
            torch.cat(x)[some], self.labels[some]
        )
        return {"val_loss": float(losses)}


RECIPES = {
    "clip-tiny": Contrastive,
    "siglip-tiny": Sigmoid,
    "local-tiny": Local,
    "sentences-tiny": Sentences,
    "supervised-tiny": Supervised,
    "mae-tiny": MaskedImage,
    "simclr-tiny": Views,
    "dino-tiny": Distilled,
    "mlm-tiny": MaskedWord,
    "lm-tiny": NextWord,
}


def needs(recipe: str, table: pd.DataFrame) -> tuple[str, ...]:
    """The columns that a recipe reads."""
    if recipe not in RECIPES:
        raise ValueError(f"expected a recipe of {', '.join(RECIPES)}, got {recipe!r}")
    if RECIPES[recipe].builds != "findings":
        return RECIPES[recipe].columns
    findings = data.findings_of(table)
    if not findings:
        raise ValueError(
            f"expected columns of findings ({', '.join(data.table.FINDINGS[:3])}, ...), got {list(table.columns)}"
        )
    return ("split", *findings)
