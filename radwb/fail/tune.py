"""Fine-tune a whole image tower for one finding."""

from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from radwb.models.model import Model, autocast, image_features


class Tuned:
    """An image tower that was fine-tuned for one finding, with its head.

    Attributes:
        model: a copy of the Model it started from; `rw.models.embed(tuned.model,
            images)` gives its features.
        head: what turns features (B, E) into a logit.
    """

    def __init__(self, start):
        self.model = deepcopy(start)
        with torch.no_grad():
            features = start.encode_image(
                start.preprocess(np.zeros((1, start.size, start.size), np.uint8))
            ).shape[1]
        self.head = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, 1)).to(
            start.device
        )
        nn.init.zeros_(
            self.head[1].weight
        )  # the same start whatever the seed; the tower's signal comes with step 2
        nn.init.zeros_(self.head[1].bias)

    def __call__(self, images) -> torch.Tensor:
        """(B, S, S) uint8 -> (B,) logits."""
        x = self.model.preprocess(images)
        return self.head(self.model.encode_image(x)).squeeze(-1)

    def classifier(self, finding: str) -> Model:
        """The same network as a `Model` with one finding, for
        `rw.attend.attention_map(..., target=finding)`.
        """
        about = {
            k: getattr(self.model, k)
            for k in ("size", "channels", "mean", "std", "fit", "grid")
        }
        return Model(
            _Headed(self.model.net, self.head),
            self.model.name,
            "image",
            **about,
            findings=[finding],
        )

    def logits(self, images, *, batch=64) -> np.ndarray:
        """(N, S, S) uint8 -> (N,) logits in float32: an edit changes some by less than
        a step of bf16.
        """
        with torch.no_grad():
            parts = [
                self(images[i : i + batch]).float().cpu()
                for i in range(0, len(images), batch)
            ]
        return torch.cat(parts).numpy()


class _Headed(nn.Module):
    """An image tower under a head that reads its unit embedding."""

    def __init__(self, net, head):
        super().__init__()
        self.visual, self.head = getattr(net, "visual", net), head

    def encode_image(self, x):
        return (
            image_features(self.visual, x)
            if hasattr(self.visual, "forward_head")
            else self.visual(x)
        )

    def forward(self, x):
        return self.head(F.normalize(self.encode_image(x), dim=-1))  # (B, 1) logits


def finetune(
    start, images, y, *, epochs=3, lr=3e-4, batch=32, seed=0, note="fine-tuning"
) -> tuple[Tuned, float]:
    """Fine-tune a copy of `start`'s image tower and a fresh head on one finding.

    Args:
        images: (N, S, S) uint8.
        y: (N,) labels 1 and 0.
    Returns:
        the tuned tower and the mean loss of the last epoch.
    """
    gpus = [start.device] if start.device.type == "cuda" else []
    with torch.random.fork_rng(
        gpus
    ):  # dropout, where a tower has it; the caller's generator stays as it was
        torch.manual_seed(seed)
        tuned, rng, per_epoch = (
            Tuned(start),
            np.random.default_rng(seed),
            -(-len(y) // batch),
        )
        batches = [
            rows
            for _ in range(epochs)
            for rows in np.array_split(rng.permutation(len(y)), per_epoch)
        ]
        target = torch.tensor(np.asarray(y), dtype=torch.float32, device=start.device)
        parameters = [*tuned.model.net.parameters(), *tuned.head.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, lr, total_steps=max(len(batches), 2), pct_start=0.15
        )
        tuned.model.net.to(
            memory_format=torch.channels_last
        ).train()  # a sixth faster where there are convolutions
        losses = []
        for rows in tqdm(batches, note, delay=2, leave=False):
            with autocast(start.device):
                logits = tuned(images[rows])
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits.float(), target[rows]
            )
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        tuned.model.net.eval()
    return tuned, float(np.mean(losses[-per_epoch:]))
