"""Recipes for images that come with something: a report, or labels."""

import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from radwb.models.model import image_features, text_features
from radwb.pretrain import objectives
from radwb.pretrain.captions import Captions, caption_of, sentences
from radwb.pretrain.losses import (
    SameCaptionLoss,
    known,
    masked_bce,
    retrieval,
    same_captions,
)
from radwb.pretrain.measures import watched
from radwb.pretrain.recipe import Recipe, patch_tokens


class Contrastive(Recipe):
    """CLIP's objective on images and captions, of which equal ones are both right."""

    builds = "image-text"
    columns = ("report", "split")
    whole_batch = True

    def read(self, table):
        self.captions = Captions(list(table["report"]), self.model.tokenizer)

    def targets(self, rows, seed=0):
        """(B, context) tokens and (B,) identities of the captions."""
        ids = self.captions.ids(rows)
        return self.captions.tokens[ids], ids

    def represent(self, x, tokens, ids):
        """(B, E) images and (B, E) texts, of unit length."""
        return self.image_points(x), self.text_points(tokens)

    def loss_of(self, points, tokens, ids):
        return self.loss(*points, ids)

    def guess(self, batch):
        return math.log(batch)

    def image_points(self, x):
        return F.normalize(image_features(self.net, x).float(), dim=-1)  # (B, E)

    def text_points(self, tokens):
        # of a step; a GPU has no memory for all sentences of a validation
        at_once = tokens.is_cuda and self.net.training
        points = text_features(self.net, tokens, at_once=at_once)  # (B, E)
        return F.normalize(points.float(), dim=-1)

    def loss(self, images, texts, ids):
        # bf16 logits would be off by up to 0.4
        with torch.autocast(images.device.type, enabled=False):
            criterion = SameCaptionLoss(rank=self.rank, world_size=self.world)
            return criterion(images, texts, self.net.logit_scale.exp(), ids)

    def after_step(self, progress=0.0):
        """CLIP's bound on the temperature."""
        with torch.no_grad():
            self.net.logit_scale.clamp_(0, np.log(100))

    def validate(self, images, *, batch):
        """Loss and retrieval on the first captions of held-out rows."""
        n = len(images)
        targets = self.targets(np.arange(n))
        targets = [t.to(self.model.device) for t in targets]
        points = self.held_out_points(images, targets)

        def loss_of(rows):
            return self.loss_of([p[rows] for p in points], *(t[rows] for t in targets))

        # in whole batches, so that each has as many wrong answers
        whole = n // batch * batch or n
        loss = self.mean_loss(whole, loss_of, batch=batch)
        captions = self.caption_points(points)
        return {"val_loss": loss} | self.measures(points[0].cpu(), captions.cpu())

    def held_out_points(self, images, targets):
        """What `represent` gives for all rows."""

        def points_of(rows):
            x = self.view(images[rows])
            return self.represent(x, *(t[rows] for t in targets))

        return self.in_parts(points_of, len(images))

    def caption_points(self, points):
        """(N, E) of the rows' captions, whose retrieval is measured."""
        return points[1]

    def measures(self, images, texts):
        """Retrieval, signs of a collapse, and eight pairs of (N, E) held-out points."""
        ids = self.captions.rows
        first = np.unique(ids, return_index=True)[1]
        eight = np.sort(first)[:8]
        columns = retrieval(images, texts, ids) | watched(images, texts, ids)
        if not self.late:
            # every run starts in a narrow cone
            columns.pop("warning", None)
        return columns | {"similarity": (images[eight] @ texts[eight].T).tolist()}


class Sigmoid(Contrastive):
    """SigLIP's objective on images and captions; equal captions are a yes.

    The bias isn't saved.
    """

    def build(self):
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def guess(self, batch):
        return None

    def loss(self, images, texts, ids):
        images, texts, ids = self.gather(images, texts, ids)
        same = ids[:, None] == ids[None]
        scale = self.net.logit_scale.exp()
        return objectives.siglip(images, texts, scale, self.bias, same=same)


class Local(Contrastive):
    """CLIP's objective and GLoRIA's word-region term, in the space of `encode_image`.

    Patches and words go through the towers' own projections, so that a trained model
    can be asked where a word lies. Words are the tokenizer's pieces, and the end token,
    which has read them all.
    """

    weight = 1.0

    def guess(self, batch):
        return 2 * math.log(batch)  # of both terms

    def read(self, table):
        super().read(table)
        # the same length for each batch, so that processes agree
        longest = int(self.captions.tokens.argmax(-1).max()) + 1
        self.captions.tokens = self.captions.tokens[:, :longest]

    def represent(self, x, tokens, ids):
        """(B, E) images, (B, E) texts, (B, T, E) patches, (B, W, E) words."""
        images, patches = patch_tokens(self.net, x)
        net = self.net
        W = tokens.shape[1]
        words = net.token_embedding(tokens) + net.positional_embedding[:W]
        words = net.transformer(words, attn_mask=net.attn_mask[:W, :W])
        words = net.ln_final(words) @ net.text_projection  # (B, W, E)
        rows = torch.arange(len(words), device=words.device)
        texts = words[rows, tokens.argmax(-1)]  # (B, E)
        images, texts = (F.normalize(p.float(), dim=-1) for p in (images, texts))
        return images, texts, patches.float(), words.float()

    def loss_of(self, points, tokens, ids):
        images, texts, patches, words = points
        tokenizer = self.model.tokenizer
        mask = (tokens != tokenizer.pad) & (tokens != tokenizer.start)  # (B, W)
        patches, words, mask, all_ids = self.gather(patches, words, mask, ids)
        right = same_captions(all_ids)
        local = objectives.local(patches, words, mask, targets=right)
        return self.loss(images, texts, ids) + self.weight * local


class Sentences(Contrastive):
    """CLIP's objective on images and sentences, right for all reports that have them.

    A prompt is a sentence, and here the model meets sentences alone, beside whole
    impressions: a finding that shares its impression with three others is asked for by
    itself. Many may be right (Yang et al. 2022, "Unified contrastive learning in
    image-text-label space", CVPR): each row of the targets shares its weight among
    them.
    """

    # drawn of a report at a step, the impression among them; of a short report some
    # more than once
    each = 4

    def read(self, table):
        super().read(table)  # whole impressions: what retrieval is measured on
        reports = [{caption_of(r), *sentences(r)} for r in table["report"]]
        texts = sorted(set().union(*reports))
        number = {text: i for i, text in enumerate(texts)}
        numbers = [torch.tensor(sorted(number[t] for t in r)) for r in reports]
        spoken = self.model.tokenizer(texts)  # (U, context)
        self.spoken = spoken[:, : int(spoken.argmax(-1).max()) + 1]  # to the longest
        self.counts = torch.tensor([len(n) for n in numbers])  # (N,)
        # which sentences a report has: (N, M)
        self.sentences = pad_sequence(numbers, batch_first=True, padding_value=-1)

    def targets(self, rows, seed=0):
        """(B, each, context) tokens, (B, each) their numbers, (B, M) all that fit."""
        rows = torch.as_tensor(rows)
        right = self.sentences[rows]  # (B, M)
        generator = torch.Generator().manual_seed(seed)
        # drawn for all rows, so that a row's don't hang on the share
        keys = torch.rand(self.sentences.shape, generator=generator)
        keys = keys[rows].masked_fill(right < 0, 2.0)
        place = torch.arange(self.each) % self.counts[rows][:, None]  # (B, each)
        drawn = right.gather(1, keys.argsort(1).gather(1, place))  # (B, each)
        return self.spoken[drawn], drawn, right

    def guess(self, batch):
        """Of ln(B) for a sentence among images, ln(B * each) the other way round."""
        return math.log(batch) + math.log(self.each) / 2

    def represent(self, x, tokens, drawn, right):
        """(B, E) images, (B, each, E) sentences."""
        return self.image_points(x), self.sentence_points(tokens, drawn)

    def sentence_points(self, tokens, drawn):
        """(B, each, E); equal ones are encoded once, but by a GPU in training."""
        tokens = tokens.flatten(0, 1)
        if tokens.is_cuda and self.net.training:  # asking it what is equal would wait
            return self.text_points(tokens).unflatten(0, drawn.shape)
        _, first, again = np.unique(drawn.cpu(), return_index=True, return_inverse=True)
        texts = self.text_points(tokens[first])
        again = torch.as_tensor(again.reshape(drawn.shape), device=texts.device)
        return texts[again]

    def loss_of(self, points, tokens, drawn, right):
        images, texts, drawn, right = self.gather(*points, drawn, right)
        fits = (right[:, :, None] == drawn.flatten()).any(1).float()  # (B, B * each)
        with torch.autocast(images.device.type, enabled=False):
            scale = self.net.logit_scale.exp()
            logits = scale * images @ texts.flatten(0, 1).T  # (B, B * each)
            per_image = F.cross_entropy(logits, fits / fits.sum(1, keepdim=True))
            per_text = F.cross_entropy(logits.T, (fits / fits.sum(0)).T)
        return (per_image + per_text) / 2

    def held_out_points(self, images, targets):
        # all sentences at once, since reports share them
        _, texts = self.represent(self.view(images[:1]), *targets)
        (points,) = self.in_parts(
            lambda rows: [self.image_points(self.view(images[rows]))], len(images)
        )
        return points, texts

    def caption_points(self, points):
        tokens = self.captions.tokens.to(self.model.device)
        return self.text_points(tokens)[self.captions.rows]


class Supervised(Recipe):
    """Binary cross-entropy on the table's finding columns."""

    builds = "findings"

    def read(self, table):
        labels = table[self.model.findings].apply(pd.to_numeric)
        self.labels = torch.tensor(labels.to_numpy(np.float32))  # (N, K)

    def targets(self, rows, seed=0):
        return (self.labels[rows],)

    def terms(self, labels):
        return known(labels).sum()

    def forward(self, x, labels):
        return masked_bce(self.net(x).float(), labels)

    def validate(self, images, *, batch):
        (logits,) = self.in_parts(
            lambda rows: [self.net(self.view(images[rows])).float()], len(images)
        )
        counted = known(self.labels)
        loss = F.binary_cross_entropy_with_logits(
            logits.cpu()[counted], self.labels[counted]
        )
        return {"val_loss": float(loss)}
