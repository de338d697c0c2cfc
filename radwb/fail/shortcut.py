"""One dial that ties a marker to a finding in training; what the model learns then, and how to tell."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from radwb import data
from radwb.fail.marker import add_marker, tie
from radwb.models.model import Model, autocast, image_features
from radwb.probe import Scores
from radwb.stats import auroc, patient_means

ARMS = {"tie holds": 1.0, "independent": 0.5, "tie broken": 0.0}


class Tuned:
    """An image tower that was fine-tuned for one finding, with its head.

    Attributes:
        model: a copy of the Model it started from; `rw.models.embed(tuned.model, images)` gives its features.
        head: what turns features (B, E) into a logit.
    """

    def __init__(self, start):
        self.model = deepcopy(start)
        with torch.no_grad():
            features = start.encode_image(start.preprocess(np.zeros((1, start.size, start.size), np.uint8))).shape[1]
        self.head = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, 1)).to(start.device)
        nn.init.zeros_(self.head[1].weight)  # the same start whatever the seed; the tower's signal comes with step 2
        nn.init.zeros_(self.head[1].bias)

    def __call__(self, images) -> torch.Tensor:
        """(B, S, S) uint8 -> (B,) logits."""
        x = self.model.preprocess(images)
        return self.head(self.model.encode_image(x)).squeeze(-1)

    def classifier(self, finding: str) -> Model:
        """The same network as a `Model` with one finding, for `rw.attend.attention_map(..., target=finding)`."""
        about = {k: getattr(self.model, k) for k in ("size", "channels", "mean", "std", "fit", "grid")}
        return Model(_Headed(self.model.net, self.head), self.model.name, "image", **about, findings=[finding])

    def logits(self, images, *, batch=64) -> np.ndarray:
        """(N, S, S) uint8 -> (N,) logits in float32: an edit changes some by less than a step of bf16."""
        with torch.no_grad():
            parts = [self(images[i : i + batch]).float().cpu() for i in range(0, len(images), batch)]
        return torch.cat(parts).numpy()


class _Headed(nn.Module):
    """An image tower under a head that reads its unit embedding."""

    def __init__(self, net, head):
        super().__init__()
        self.visual, self.head = getattr(net, "visual", net), head

    def encode_image(self, x):
        return image_features(self.visual, x) if hasattr(self.visual, "forward_head") else self.visual(x)

    def forward(self, x):
        return self.head(F.normalize(self.encode_image(x), dim=-1))  # (B, 1) logits


@dataclass(frozen=True, eq=False)
class ShortcutResult:
    """What the dial did.

    Attributes:
        table: strength, arm, the numbers of `Scores.auroc`, marker_only (AUROC of "is there a
            marker?" in that arm). The same unseen images in every arm; only the marker moves.
        edits: strength, finding (0, 1), added (mean change of the logit when the marker is pasted on the same
            image), low, high (over patients), n. Taking it off is the same pair read backwards.
        training: strength, marker_only (AUROC of the marker alone on the training images), loss, n, positives.
        tuned: strength -> Tuned, for maps and for mitigation.
        test: the rows of the test images, in the order of `images`.
        images: (N, S, S) uint8 test images without marker.
        marker: kind, corner and seed, as `add_marker(images, where, **result.marker)` takes them.
    """

    table: pd.DataFrame
    edits: pd.DataFrame
    training: pd.DataFrame
    tuned: dict[float, Tuned]
    test: pd.DataFrame
    images: np.ndarray
    marker: dict


def shortcut(
    table, *, start, finding="Lung Lesion", strengths: Sequence[float] = (0.5, 0.75, 1.0), epochs=3, n=800, seed=0,
    kind="letter", corner="bottom-right", lr=3e-4, batch=32,
) -> ShortcutResult:  # fmt: skip
    """Fine-tune `start` once for each strength of the tie, and test it where the tie holds and where it's broken.

    >>> rw.fail.shortcut(table, start=model).table

    After Zech et al. 2018 (doi 10.1371/journal.pmed.1002683) and DeGrave et al. 2021 (doi 10.1038/s42256-021-00338-7).

    Args:
        table: rows of split "train" to learn from and of split "test" to test on; labels 1 and 0 are used.
        start: the Model whose image tower is fine-tuned, each time from its present weights.
        finding: label column. One that `start` hardly sees yet takes the bait sooner than one it knows well.
        strengths: share of the training images with the finding that carry the marker; as many of those
            without carry none. 0.5 is no tie.
        n: training images at most, half of them with the finding if there are enough.
        seed: of the choice of images, of the markers and of the order of training.
        kind, corner: as in `add_marker`.
        lr: of AdamW; batch: images a step.
    """
    train, test = (_labelled(table, finding, split) for split in ("train", "test"))
    train = _balanced(train, finding, n, seed)
    images, unseen = (data.images(t, start.size, fit=start.fit) for t in (train, test))
    y, marker = train[finding].to_numpy(int), {"kind": kind, "corner": corner, "seed": seed}
    tuned, tables, changes, learnt = {}, [], [], []
    for strength in strengths:
        marked = tie(y, strength, seed=seed)
        tuned[strength], loss = finetune(start, add_marker(images, marked, **marker), y, epochs=epochs, lr=lr,
                                         batch=batch, seed=seed, note=f"tie {strength:g}")  # fmt: skip
        off, on = (tuned[strength].logits(x) for x in (unseen, add_marker(unseen, **marker)))
        tables.append(arms(off, on, test, finding, seed=seed).assign(strength=strength))
        changes.append(edits(off, on, test, finding, seed=seed).assign(strength=strength))
        learnt.append((auroc(y, marked), loss, len(y), int(y.sum()), strength))
    training = pd.DataFrame(learnt, columns=["marker_only", "loss", "n", "positives", "strength"])
    return ShortcutResult(*map(_stacked, (tables, changes, [training])), tuned, test, unseen, marker)


def _stacked(parts):
    whole = pd.concat(parts, ignore_index=True)
    return whole[["strength", *whole.columns.drop("strength")]]


def finetune(start, images, y, *, epochs=3, lr=3e-4, batch=32, seed=0, note="fine-tuning") -> tuple[Tuned, float]:
    """Fine-tune a copy of `start`'s image tower and a fresh head on one finding.

    Args:
        images: (N, S, S) uint8.
        y: (N,) labels 1 and 0.
    Returns:
        the tuned tower and the mean loss of the last epoch.
    """
    gpus = [start.device] if start.device.type == "cuda" else []
    with torch.random.fork_rng(gpus):  # dropout, where a tower has it; the caller's generator stays as it was
        torch.manual_seed(seed)
        tuned, rng, per_epoch = Tuned(start), np.random.default_rng(seed), -(-len(y) // batch)
        batches = [rows for _ in range(epochs) for rows in np.array_split(rng.permutation(len(y)), per_epoch)]
        target = torch.tensor(np.asarray(y), dtype=torch.float32, device=start.device)
        parameters = [*tuned.model.net.parameters(), *tuned.head.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=max(len(batches), 2), pct_start=0.15)
        tuned.model.net.to(memory_format=torch.channels_last).train()  # a sixth faster where there are convolutions
        losses = []
        for rows in tqdm(batches, note, delay=2, leave=False):
            with autocast(start.device):
                logits = tuned(images[rows])
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), target[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        tuned.model.net.eval()
    return tuned, float(np.mean(losses[-per_epoch:]))


def arms(off, on, test, finding, *, seed=0, n_boot=1000) -> pd.DataFrame:
    """AUROC of the same images with the marker where the finding is, anywhere, and where it isn't.

    Args:
        off, on: (N,) scores of each image without and with the marker.
        test: their rows.
    """
    y, rows = test[finding].to_numpy(int), []
    for arm, strength in ARMS.items():
        marked = tie(y, strength, seed=seed + 1)
        scores = Scores.of(np.where(marked, on, off)[:, None], test, [finding])
        row = scores.auroc(n_boot=n_boot, seed=seed).iloc[0]
        kept = row.drop(["finding", "dropped"]).to_dict()
        rows.append({"arm": arm, **kept, "marker_only": auroc(y, marked)})
    return pd.DataFrame(rows)


def edits(off, on, test, finding, *, n_boot=1000, seed=0) -> pd.DataFrame:
    """Mean change of the logit when the marker is pasted on the same image, with and without the finding."""
    change, rows = np.asarray(on) - np.asarray(off), []
    for value in (0, 1):
        here = (test[finding] == value).to_numpy()
        low, high = np.quantile(
            patient_means(change[here], test.patient_id[here], n_boot=n_boot, seed=seed), [0.025, 0.975]
        )
        rows.append({"finding": value, "added": change[here].mean(), "low": low, "high": high, "n": int(here.sum())})
    return pd.DataFrame(rows)


def _labelled(table, finding, split):
    data.check_table(table, needs=("split", finding))
    part = table[(table["split"] == split) & table[finding].isin([0, 1])]
    if part[finding].nunique() < 2:
        raise ValueError(f"expected {split} images with and without {finding}, got {len(part)} of one kind")
    return part


def _balanced(train, finding, n, seed):
    rng, y = np.random.default_rng(seed), train[finding].to_numpy(int)
    cases, controls = (rng.permutation(np.flatnonzero(y == v)) for v in (1, 0))
    n_cases = min(len(cases), max(n // 2, n - len(controls)))
    return train.iloc[np.sort(np.concatenate([cases[:n_cases], controls[: n - n_cases]]))]
