"""Is a planted finding learnable, and does the dial hide it? A small network at four visibilities.

python benchmarks/visibility.py [FILMS]     prints the AUROC of each finding on unseen patients, 95 % by patient

Not a row of the bench: it measures the simulator, not speed. About ten minutes on two cores with the default of 3,000.
"""

import sys

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

import radwb as rw

SIZE, EPOCHS, DIALS = 96, 16, (3.0, 1.0, 0.3, 0.0)


class Small(nn.Module):
    """Five strided convolutions; means and maxima of the last, since a finding may be large or small."""

    def __init__(self, outputs, widths=(1, 24, 48, 96, 128, 128)):
        super().__init__()
        steps = [(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                 for a, b in zip(widths, widths[1:], strict=False)]  # fmt: skip
        self.body, self.head = nn.Sequential(*(m for s in steps for m in s)), nn.Linear(2 * widths[-1], outputs)

    def forward(self, x):
        x = self.body(x)
        return self.head(torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1))


def learn(table, seed=0):
    """A network trained on the films with split "train"."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rows = table[table["split"] != "test"]
    x = torch.from_numpy(rw.data.images(rows, SIZE)).float()[:, None] / 255
    y = torch.from_numpy(rows[list(rw.simulate.PLANTED)].to_numpy(np.float32))
    net = Small(y.shape[1])
    steps = EPOCHS * (len(x) // 32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in tqdm(range(steps), desc="training", leave=False):
        pick = torch.from_numpy(rng.choice(len(x), 32, replace=False))
        dy, dx = rng.integers(-4, 5, 2)
        bright = torch.from_numpy(rng.normal(0, 0.05, (32, 1, 1, 1)).astype(np.float32))
        films = torch.roll(x[pick], (int(dy), int(dx)), (2, 3)) + bright
        loss = F.binary_cross_entropy_with_logits(net(films), y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def scores(net, table):
    """rw.probe.Scores on the test patients."""
    rows = table[table["split"] == "test"].reset_index(drop=True)
    x = torch.from_numpy(rw.data.images(rows, SIZE)).float()[:, None] / 255
    with torch.no_grad():
        values = torch.cat([net(part) for part in x.split(64)]).numpy()
    names = list(rw.simulate.PLANTED)
    return rw.probe.Scores(pd.DataFrame(values, columns=names), rows[names], rows["patient_id"].to_numpy())


def main(n=3000):
    out = {}
    for level in DIALS:
        table = rw.simulate.cohort(n=n, seed=4, size=SIZE, visibility=level)
        result = scores(learn(table), table).auroc(n_boot=500).set_index("finding")
        out[f"visibility {level:g}"] = [rw.probe.stated(result.loc[f]) for f in rw.simulate.PLANTED]
        tqdm.write(f"visibility {level:g}: mean {result.auroc.mean():.3f}")
    print(pd.DataFrame(out, index=rw.simulate.PLANTED).to_string())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
