"""Is a planted finding learnable, and does the dial hide it? One network, its patients filmed at four contrasts.

python benchmarks/visibility.py [FILMS]     prints the AUROC of each finding on unseen patients, 95 % by patient

A residual network learns on films whose findings have a contrast to noise of 4 (`Dials(cnr=4)`, `plant`), and reads
other patients' films at that contrast and at lower ones. The heart has no such dial: its size is its sign. The films
come from `rw.simulate.stream` and nothing is written: of each a small square is kept, and the peak of the memory while
they stream is printed. Not a row of the bench: it measures the simulator, not speed. 20 minutes on two cores with the
default of 10,000.
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

SIZE, EPOCHS, BATCH, DIALS = 128, 14, 32, (4.0, 1.0, 0.3, 0.0)


class Block(nn.Module):
    """Two convolutions, half the size, with a way around the second."""

    def __init__(self, a, b):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        x = self.one(x)
        return F.relu(x + self.two(x))


class Small(nn.Module):
    """A stem and four blocks; means and maxima of the last, since a finding may be large or small."""

    def __init__(self, outputs, widths=(24, 48, 96, 160, 256)):
        super().__init__()
        stem = (nn.Conv2d(1, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.body = nn.Sequential(*stem, *(Block(a, b) for a, b in zip(widths, widths[1:], strict=False)))
        self.head = nn.Linear(2 * widths[-1], outputs)

    def forward(self, x):
        x = self.body(x)
        return self.head(torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1))


def films(n, seed, cnr):
    """(N, SIZE, SIZE) uint8 and their rows; 160 px films, made small as a model would."""
    made = rw.simulate.stream(n, seed=seed, dials=rw.simulate.Dials(cnr=cnr))
    small = lambda scan: np.round(to_input(scan.pixels, SIZE) * 255).astype(np.uint8)  # noqa: E731
    pairs = [(small(scan), row) for scan, row in tqdm(made, f"contrast {cnr:g}", n, leave=False)]
    squares, rows = zip(*pairs, strict=True)
    return np.stack(squares), pd.DataFrame(rows)


def inputs(squares):
    """(B, 1, SIZE, SIZE) in the order of memory that convolutions like."""
    return (torch.from_numpy(squares).float()[:, None] / 255).contiguous(memory_format=torch.channels_last)


def learn(squares, table, seed=0):
    """A network trained on all films."""
    torch.manual_seed(seed)
    rng, n = np.random.default_rng(seed), len(squares)
    y = torch.from_numpy(table[list(rw.simulate.PLANTED)].to_numpy(np.float32))
    net = Small(y.shape[1]).to(memory_format=torch.channels_last)
    steps = EPOCHS * (n // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    order = np.concatenate([rng.permutation(n)[: n // BATCH * BATCH] for _ in range(EPOCHS)])
    for pick in tqdm(order.reshape(steps, BATCH), desc="training", leave=False):
        dy, dx = rng.integers(-6, 7, 2)
        bright = torch.from_numpy(rng.normal(0, 0.05, (BATCH, 1, 1, 1)).astype(np.float32))
        moved = torch.roll(inputs(squares[pick]), (int(dy), int(dx)), (2, 3)) + bright
        with autocast(torch.device("cpu"), rw.models.fast_precision()):
            loss = F.binary_cross_entropy_with_logits(net(moved).float(), y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def scores(net, squares, table):
    """rw.probe.Scores of films."""
    with torch.no_grad():
        parts = np.array_split(squares, max(1, len(squares) // 64))
        values = torch.cat([net(inputs(part)) for part in parts]).numpy()
    return rw.probe.Scores.of(values, table, rw.simulate.PLANTED)


def main(n=10000):
    began, out = time.perf_counter(), {}
    squares, table = films(n, 4, DIALS[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    speed = n / (time.perf_counter() - began)
    print(f"{n:,} films streamed at {speed:.1f} a second, at most {peak:.2f} GiB", flush=True)
    net = learn(squares, table)
    for level in DIALS:
        result = scores(net, *films(n // 7, 5, level)).auroc(n_boot=500).set_index("finding")
        out[f"contrast {level:g}"] = [rw.probe.stated(result.loc[f]) for f in rw.simulate.PLANTED]
        tqdm.write(f"contrast to noise {level:g}: mean {result.auroc.mean():.3f}")
    print(pd.DataFrame(out, index=rw.simulate.PLANTED).to_string())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
