"""Two recipes, as modules whose forward is the loss of a batch: image-text contrastive, and supervised."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from radwb import data
from radwb.models.model import Model, image_features, squares, text_features
from radwb.pretrain.captions import Captions
from radwb.pretrain.losses import SameCaptionLoss, masked_bce, retrieval


class Contrastive(nn.Module):
    """CLIP's objective on images and captions."""

    def __init__(self, model: Model, table: pd.DataFrame, *, rank: int = 0, world: int = 1):
        super().__init__()
        self.model, self.net = model, model.net
        self.captions = Captions(list(table["report"]), model.tokenizer)
        self.criterion = SameCaptionLoss(rank=rank, world_size=world)

    def targets(self, rows) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.captions.ids(rows)
        return self.captions.tokens[ids], ids

    def forward(self, x, tokens, ids):
        return self.loss(self.image_points(x), self.text_points(tokens), ids)

    def image_points(self, x):
        return F.normalize(image_features(self.net, x).float(), dim=-1)  # (B, E)

    def text_points(self, tokens):
        return F.normalize(text_features(self.net, tokens).float(), dim=-1)  # (B, E)

    def loss(self, images, texts, ids):
        with torch.autocast(images.device.type, enabled=False):  # bf16 logits would be off by up to 0.4
            return self.criterion(images, texts, self.net.logit_scale.exp(), ids)

    def after_step(self):
        """CLIP's bound on the temperature."""
        with torch.no_grad():
            self.net.logit_scale.clamp_(0, np.log(100))

    def validate(self, images: torch.Tensor, *, batch: int) -> dict[str, float]:
        """Loss and retrieval on the first captions of held-out rows; `criterion` must be that of one process."""
        rows = np.arange(len(images))
        tokens, ids = self.targets(rows)
        device = self.model.device
        Zi = torch.cat([self.image_points(inputs(self.model, images[i : i + 32])) for i in range(0, len(rows), 32)])
        Zt = self.text_points(tokens.to(device))
        whole = max(batch, len(rows) // batch * batch) if len(rows) >= batch else len(rows)
        chunks = torch.arange(whole, device=device).split(batch)
        losses = [self.loss(Zi[c], Zt[c], ids.to(device)[c]).item() for c in chunks]
        return {"val_loss": float(np.mean(losses))} | retrieval(Zi.cpu(), Zt.cpu(), ids)


class Supervised(nn.Module):
    """Binary cross-entropy on the table's finding columns."""

    def __init__(self, model: Model, table: pd.DataFrame, **_):
        super().__init__()
        self.model, self.net = model, model.net
        labels = table[model.findings].apply(pd.to_numeric).to_numpy(np.float32, copy=True)
        self.labels = torch.from_numpy(labels)  # (N, K)

    def targets(self, rows) -> tuple[torch.Tensor]:
        return (self.labels[rows],)

    def forward(self, x, labels):
        return masked_bce(self.net(x).float(), labels)

    def after_step(self):
        pass

    def validate(self, images: torch.Tensor, *, batch: int) -> dict[str, float]:
        x = [self.net(inputs(self.model, images[i : i + 32])).float().cpu() for i in range(0, len(images), 32)]
        known = (self.labels == 0) | (self.labels == 1)
        losses = F.binary_cross_entropy_with_logits(torch.cat(x)[known], self.labels[known])
        return {"val_loss": float(losses)}


RECIPES = {"clip-tiny": Contrastive, "supervised-tiny": Supervised}


def inputs(model: Model, images: torch.Tensor) -> torch.Tensor:
    """(B, S, S) uint8 -> what the network takes, on its device."""
    return model.normalise(squares(images, model.size).to(model.device))


def needs(recipe: str, table: pd.DataFrame) -> tuple[str, ...]:
    """The columns that a recipe reads."""
    if recipe not in RECIPES:
        raise ValueError(f"expected a recipe of {', '.join(RECIPES)}, got {recipe!r}")
    if recipe == "clip-tiny":
        return ("report", "split")
    findings = data.findings_of(table)
    if not findings:
        raise ValueError(
            f"expected columns of findings ({', '.join(data.FINDINGS[:3])}, ...), got {list(table.columns)}"
        )
    return ("split", *findings)
