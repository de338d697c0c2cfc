"""Is a planted finding learnable, and does the dial hide it? One network, its patients
filmed at four contrasts.

python benchmarks/visibility.py [FILMS]     prints the AUROC of each finding on unseen
patients, 95 % by patient

A residual network learns on films whose findings have a contrast to noise of 4
(`Dials(cnr=4)`, `plant`), and reads other patients' films at that contrast and at lower
ones. The heart has no such dial: its size is its sign. At a high contrast one finding
may hide another: a lesion under a consolidation that is white already adds nothing to
it. So the first contrast has a second column, of films with nothing else that whitens a
lung. The films come from `rw.simulate.stream` and nothing is written: of each a small
square is kept, and the peak of the memory while they stream is printed. Not a row of
the bench: it measures the simulator, not speed. 40 minutes on two cores with the
default of 12,000.
"""

import resource
import sys
import time

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

import radwb as rw
from radwb.data.geometry import to_input
from radwb.models.model import autocast

SIZE = 160
EPOCHS = 20
BATCH = 32
DIALS = (4.0, 1.0, 0.3, 0.0)
WHITE = (
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Atelectasis",
    "Pleural Effusion",
    "Pleural Other",
)


class Block(nn.Module):
    """Two convolutions, half the size, with a way around the second."""

    def __init__(self, a, b):
        super().__init__()
        self.one = nn.Sequential(
            nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()
        )
        self.two = nn.Sequential(
            nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        )

    def forward(self, x):
        x = self.one(x)
        return F.relu(x + self.two(x))


class Small(nn.Module):
    """A stem and four blocks; means and maxima of the last, since a finding may be
    large or small.
    """

    def __init__(self, outputs, widths=(24, 48, 96, 160, 256)):
        super().__init__()
        stem = (
            nn.Conv2d(1, widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        self.body = nn.Sequential(
            *stem, *(Block(a, b) for a, b in zip(widths, widths[1:], strict=False))
        )
        self.head = nn.Linear(2 * widths[-1], outputs)

    def forward(self, x):
        x = self.body(x)
        return self.head(torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1))


def films(n, seed, cnr):
    """(N, SIZE, SIZE) uint8 and their rows; 160 px films, squared as a model would."""
    squares, rows = np.empty((n, SIZE, SIZE), np.uint8), []
    made = rw.simulate.stream(n, seed=seed, dials=rw.simulate.Dials(cnr=cnr))
    for k, (scan, row) in enumerate(tqdm(made, f"contrast {cnr:g}", n, leave=False)):
        squares[k] = np.round(to_input(scan.pixels, SIZE) * 255)
        rows.append(row)
    return squares, pd.DataFrame(rows)


def inputs(squares):
    """(B, 1, SIZE, SIZE) in the order of memory that convolutions like."""
    return (torch.from_numpy(squares).float()[:, None] / 255).contiguous(
        memory_format=torch.channels_last
    )


def jitter(x, rng):
    """Each film turned, moved, zoomed, perhaps mirrored (no label has a side), brighter
    or darker.
    """
    n = len(x)
    turn = rng.normal(0, 0.06, n)
    zoom = rng.uniform(0.9, 1.1, n)
    side = rng.choice((-1, 1), n)
    rows = [
        [side * zoom * np.cos(turn), -zoom * np.sin(turn), rng.uniform(-0.08, 0.08, n)],
        [side * zoom * np.sin(turn), zoom * np.cos(turn), rng.uniform(-0.08, 0.08, n)],
    ]
    theta = torch.from_numpy(np.array(rows, np.float32)).movedim(2, 0)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    gain, bright = (
        torch.from_numpy(rng.normal(m, 0.06, (n, 1, 1, 1)).astype(np.float32))
        for m in (1, 0)
    )
    return ((moved - 0.5) * gain + 0.5 + bright).contiguous(
        memory_format=torch.channels_last
    )


def learn(squares, table, seed=0):
    """A network trained on all films."""
    torch.manual_seed(seed)
    rng, n = np.random.default_rng(seed), len(squares)
    y = torch.from_numpy(table[list(rw.simulate.PLANTED)].to_numpy(np.float32))
    net = Small(y.shape[1]).to(memory_format=torch.channels_last)
    steps = EPOCHS * (n // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    order = np.concatenate(
        [rng.permutation(n)[: n // BATCH * BATCH] for _ in range(EPOCHS)]
    )
    for pick in tqdm(order.reshape(steps, BATCH), desc="training", leave=False):
        moved = jitter(inputs(squares[pick]), rng)
        with autocast(torch.device("cpu"), rw.models.fast_precision()):
            loss = F.binary_cross_entropy_with_logits(net(moved).float(), y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def answers(net, squares):
    """(N, K) logits of films."""
    with torch.no_grad():
        parts = np.array_split(squares, max(1, len(squares) // 64))
        return torch.cat([net(inputs(part)) for part in parts]).numpy()


def column(values, table, alone=False):
    """AUROC of each finding in words; `alone`: of films with nothing else that whitens
    a lung.
    """
    out = {}
    for k, finding in enumerate(rw.simulate.PLANTED):
        others = [f for f in WHITE if f != finding]
        planted = table[
            [f"{f} severity" for f in others]
        ].notna()  # a label of 1 may be a parent's, of a child
        some = ~planted.any(axis=1).to_numpy() if alone else np.full(len(table), True)
        scores = rw.probe.Scores.of(values[some][:, k : k + 1], table[some], [finding])
        out[finding] = rw.stats.format_interval(scores.auroc().iloc[0])
    return out


def main(n=12000):
    began, out = time.perf_counter(), {}
    squares, table = films(n, 4, DIALS[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    speed = n / (time.perf_counter() - began)
    print(
        f"{n:,} films streamed at {speed:.1f} a second, at most {peak:.2f} GiB",
        flush=True,
    )
    net = learn(squares, table)
    for level in DIALS:
        squares, table = films(n // 4, 5, level)
        values = answers(net, squares)
        out[f"contrast {level:g}"] = column(values, table)
        if level == DIALS[0]:
            out["alone in a lung"] = column(values, table, alone=True)
    print(pd.DataFrame(out).to_string())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
