"""Is a planted finding learnable, and does the dial hide it? One network, its patients filmed at four contrasts.

python benchmarks/visibility.py [FILMS]     prints the AUROC of each finding on unseen patients, 95 % by patient

A residual network learns on films whose findings have a contrast to noise of 2 (`Dials(cnr=2)`, `plant`), and reads
other patients' films at that contrast and at lower ones. The heart has no such dial: its size is its sign. Not a row of
the bench: it measures the simulator, not speed. About 20 minutes on two cores with the default of 6,000.
"""

import sys

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

import radwb as rw

SIZE, EPOCHS, BATCH, DIALS = 128, 14, 32, (2.0, 1.0, 0.3, 0.0)


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


def films(table):
    """(N, 1, SIZE, SIZE) in the order of memory that convolutions like."""
    x = torch.from_numpy(rw.data.images(table, SIZE)).float()[:, None] / 255
    return x.contiguous(memory_format=torch.channels_last)


def learn(table, seed=0):
    """A network trained on all films of `table`."""
    torch.manual_seed(seed)
    rng, x = np.random.default_rng(seed), films(table)
    y = torch.from_numpy(table[list(rw.simulate.PLANTED)].to_numpy(np.float32))
    net = Small(y.shape[1]).to(memory_format=torch.channels_last)
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    order = np.concatenate([rng.permutation(len(x))[: len(x) // BATCH * BATCH] for _ in range(EPOCHS)])
    for pick in tqdm(order.reshape(steps, BATCH), desc="training", leave=False):
        dy, dx = rng.integers(-6, 7, 2)
        bright = torch.from_numpy(rng.normal(0, 0.05, (BATCH, 1, 1, 1)).astype(np.float32))
        moved = torch.roll(x[pick], (int(dy), int(dx)), (2, 3)) + bright
        loss = F.binary_cross_entropy_with_logits(net(moved), y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def scores(net, table):
    """rw.probe.Scores of the films of `table`."""
    with torch.no_grad():
        values = torch.cat([net(part) for part in films(table).split(64)]).numpy()
    names = list(rw.simulate.PLANTED)
    return rw.probe.Scores(pd.DataFrame(values, columns=names), table[names], table["patient_id"].to_numpy())


def main(n=6000):
    net, out = learn(rw.simulate.cohort(n=n, seed=4, size=SIZE, dials=rw.simulate.Dials(cnr=DIALS[0]))), {}
    for level in DIALS:
        table = rw.simulate.cohort(n=n // 4, seed=5, size=SIZE, dials=rw.simulate.Dials(cnr=level))
        result = scores(net, table).auroc(n_boot=500).set_index("finding")
        out[f"contrast {level:g}"] = [rw.probe.stated(result.loc[f]) for f in rw.simulate.PLANTED]
        tqdm.write(f"contrast to noise {level:g}: mean {result.auroc.mean():.3f}")
    print(pd.DataFrame(out, index=rw.simulate.PLANTED).to_string())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
