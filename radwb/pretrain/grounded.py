"""A recipe that knows where: phrases are found on the patches that a mask covers."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from radwb import data
from radwb.data.geometry import to_input
from radwb.findings import FINDINGS
from radwb.models.model import Model
from radwb.pretrain.paired import Sentences
from radwb.pretrain.recipe import patch_tokens

WHOLE = 0.25  # share of a patch from which on it is the finding's
PHRASES = ("there is {}", "{}", "findings of {}")
TO_POSITIVES = 5.0  # weight: a finding covers few patches


class Grounded(Sentences):
    """`Sentences`, and each finding's name is found on the patches that it covers.

    The term is a yes or no of each patch's token to each finding's phrase, in the space
    of `encode_image`, so that a trained model can be asked where a phrase lies (phrase
    grounding; Boecking et al. 2022, "Making the most of text semantics to improve
    biomedical vision-language processing", ECCV, ask models this afterwards). It needs
    truth masks beside the films, which the simulator has. Where a film has a finding
    and no mask of it, nothing is asked. Augmentation moves a film by half a patch at
    most; masks stay.
    """

    weight = 1.0

    def read(self, table):
        if "key" in table:
            raise ValueError(
                "expected a table of films with masks beside them, got shards, whose "
                "masks aren't read. Try fit(table, ...), or recipe='sentences-tiny'."
            )
        super().read(table)
        self.named = [f for f in data.findings_of(table) if f in FINDINGS]
        phrases = [p.format(name_of(f)) for p in PHRASES for f in self.named]
        tokens = self.model.tokenizer(phrases)
        tokens = tokens[:, : int(tokens.argmax(-1).max()) + 1]  # to the longest
        self.phrases = tokens.unflatten(0, (len(PHRASES), -1))  # (P, K, context)
        self.covered = covered(table, self.named, self.model)  # (N, K, T), -1 unknown

    def build(self):
        self.sharpness = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def targets(self, rows, seed=0):
        """Those of `Sentences`; (B, K, context) phrases; (B, K, T) what they cover."""
        phrases = self.phrases[seed % len(self.phrases)]
        phrases = phrases.expand(len(rows), *phrases.shape)
        return *super().targets(rows, seed), phrases, self.covered[rows].float()

    def guess(self, batch):
        return None

    def represent(self, x, tokens, drawn, right, phrases, covered):
        """(B, E) images, (B, each, E) sentences, (B, K, T) logits of the patches."""
        texts = self.sentence_points(tokens, drawn)
        images, patches = patch_tokens(self.net, x)
        names = self.text_points(phrases[0])  # (K, E), the same for all films
        patches = F.normalize(patches.float(), dim=-1)
        found = self.sharpness.exp() * (patches @ names.T) + self.bias  # (B, T, K)
        return F.normalize(images.float(), dim=-1), texts, found.mT

    def loss_of(self, points, tokens, drawn, right, phrases, covered):
        images, texts, found = points
        whole = super().loss_of((images, texts), tokens, drawn, right)
        found, covered = self.gather(found, covered)
        return whole + self.weight * on_patches(found, covered)

    def validate(self, images, *, batch):
        """As for `Sentences`: whether maps lie right is `rw.attend.score_map`'s."""
        plain = copy.copy(self)
        plain.__class__ = Sentences
        return plain.validate(images, batch=batch)


def on_patches(found: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of (B, K, T) logits against shares, -1 left out."""
    known = covered >= 0
    weight = torch.full_like(found[0, 0, :1], TO_POSITIVES)
    return F.binary_cross_entropy_with_logits(
        found[known], covered[known], pos_weight=weight
    )


def name_of(finding: str) -> str:
    """A finding as a sentence has it."""
    nouns = FINDINGS[finding].report.nouns if FINDINGS[finding].report else ()
    return nouns[0] if nouns else finding.lower()


def covered(table: pd.DataFrame, findings: list[str], model: Model) -> torch.Tensor:
    """How much of each patch a finding's mask covers, 1 from a quarter of it on.

    Args:
        table: needs path; masks lie beside the films or at truth_path.
        findings: K columns of the table.
        model: whose input and patches these are.
    Returns:
        (N, K, T) float16 from 0 to 1; -1 where a film has a finding and no mask.
    """

    def of_film(row):
        truth = data.scan_of(row).truth or {}
        shares = np.zeros((len(findings), int(np.prod(model.grid))), np.float16)
        for k, finding in enumerate(findings):
            mask = truth.get(finding)
            if mask is not None and mask.any():
                shares[k] = patch_shares(mask, model)
            elif row[finding] != 0:
                shares[k] = -1
        return shares

    rows = table.to_dict("records")
    with ThreadPoolExecutor(4) as pool:
        films = pool.map(of_film, rows)
        bar = tqdm(films, "reading masks", len(rows), delay=2, leave=False)
        return torch.from_numpy(np.stack(list(bar)))


def patch_shares(mask: np.ndarray, model: Model) -> np.ndarray:
    """(T,) share of each patch of the model's that a mask (H, W) covers."""
    square = to_input(mask.astype(np.float32), model.size, fit=model.fit)
    share = F.adaptive_avg_pool2d(torch.from_numpy(square)[None, None], model.grid)
    return (share.flatten() / WHOLE).clamp(max=1).numpy()
