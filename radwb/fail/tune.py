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
        blank = np.zeros((1, start.size, start.size), np.uint8)
        x = start.preprocess(blank)
        with torch.no_grad():
            _, E = start.encode_image(x).shape
        linear = nn.Linear(E, 1)
        # the same start whatever the seed; the tower's signal comes with step 2
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        head = nn.Sequential(nn.LayerNorm(E), linear)
        self.head = head.to(start.device)

    def __call__(self, images) -> torch.Tensor:
        """(B, S, S) uint8 -> (B,) logits."""
        x = self.model.preprocess(images)
        features = self.model.encode_image(x)  # (B, E)
        return self.head(features).squeeze(-1)

    def classifier(self, finding: str) -> Model:
        """The same network as a `Model` with one finding, for `rw.attend`'s maps."""
        names = ("size", "channels", "mean", "std", "fit", "grid", "tone")
        about = {name: getattr(self.model, name) for name in names}
        net = _Headed(self.model.net, self.head)
        return Model(net, self.model.name, "image", **about, findings=[finding])

    def logits(self, images, *, batch: int = 64) -> np.ndarray:
        """(N, S, S) uint8 -> (N,) logits in float32.

        An edit changes some by less than a step of bf16.
        """
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), batch):
                logits = self(images[start : start + batch])
                parts.append(logits.float().cpu())
        return torch.cat(parts).numpy()


class _Headed(nn.Module):
    """An image tower under a head that reads its unit embedding."""

    def __init__(self, net, head):
        super().__init__()
        self.visual = getattr(net, "visual", net)
        self.head = head

    def encode_image(self, x):
        if hasattr(self.visual, "forward_head"):
            return image_features(self.visual, x)
        return self.visual(x)

    def forward(self, x):
        embedding = self.encode_image(x)  # (B, E)
        unit = F.normalize(embedding, dim=-1)
        return self.head(unit)  # (B, 1) logits


def finetune(
    start: Model, images, y, *, epochs=3, lr=3e-4, batch=32, seed=0, note="fine-tuning"
) -> tuple[Tuned, float]:
    """Fine-tune a copy of `start`'s image tower and a fresh head on one finding.

    Args:
        start: the Model; it stays as it is.
        images: (N, S, S) uint8.
        y: (N,) labels 1 and 0.
        epochs, lr, batch: of AdamW under a one-cycle schedule.
        seed: of the order, and of dropout where a tower has it.
        note: beside the progress bar.
    Returns:
        the tuned tower and the mean loss of the last epoch.
    """
    gpus = [start.device] if start.device.type == "cuda" else []
    with torch.random.fork_rng(gpus):  # the caller's generator stays as it was
        torch.manual_seed(seed)
        tuned = Tuned(start)
        batches = _batches(len(y), batch, epochs, seed)
        y = np.asarray(y)
        target = torch.tensor(y, dtype=torch.float32, device=start.device)
        parameters = [*tuned.model.net.parameters(), *tuned.head.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)
        steps = max(len(batches), 2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, lr, total_steps=steps, pct_start=0.15
        )
        # a sixth faster where there are convolutions
        net = tuned.model.net.to(memory_format=torch.channels_last)
        net.train()
        losses = []
        for rows in tqdm(batches, note, delay=2, leave=False):
            with autocast(start.device):
                logits = tuned(images[rows])
            logits = logits.float()
            loss = F.binary_cross_entropy_with_logits(logits, target[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        net.eval()
    steps_an_epoch = len(batches) // epochs
    last_epoch = losses[-steps_an_epoch:]
    return tuned, float(np.mean(last_epoch))


def _batches(n, batch, epochs, seed):
    """Rows of each step, all of them once an epoch, in another order each time."""
    rng = np.random.default_rng(seed)
    steps = -(-n // batch)
    batches = []
    for _ in range(epochs):
        order = rng.permutation(n)
        batches += np.array_split(order, steps)
    return batches
