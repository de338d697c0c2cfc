"""Speed against other libraries, each row gated on an equality check; never a timed test.

python benchmarks/bench.py [ROW ...]        prints a row a goal and writes build/bench.json
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from attention import ATTENTION
from browser import BROWSER
from embedding import EMBEDDING
from rows import row, timed
from tqdm import tqdm
from volumes import VOLUMES

import radwb as rw

OUT = Path(__file__).parents[1] / "build" / "bench.json"


def simulate(size=160, n=120, bound=30.0) -> dict:
    """Radiographs a second with masks and devices, written to disk; the same seed gives the same pixels."""
    seed = iter(range(1000, 2000))
    anatomy = rw.simulate.default_anatomy(345 / size)  # a cohort of a given anatomy is made anew, never read
    first, again = (
        rw.data.images(rw.simulate.cohort(n=8, seed=999, size=size, anatomy=anatomy, workers=w), size) for w in (1, 3)
    )
    assert (first == again).all()
    seconds = timed({"ours": lambda: rw.simulate.cohort(n=n, seed=next(seed), size=size, anatomy=anatomy)}, 3)
    return row(f"simulate {size} px", "img/s", n, seconds, bound=bound, of="ours", equal="same seed, same pixels")


def simulate_large() -> dict:
    return simulate(512, 16, 4.0)


def clip_step() -> dict:
    """One training step of clip-tiny as `fit` takes it, against open_clip's loss in fp32 on the same network."""
    from open_clip.loss import ClipLoss
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from radwb.models.model import autocast
    from radwb.pretrain.recipes import Contrastive

    table = rw.simulate.cohort(n=96, seed=0).drop_duplicates("report").head(32)
    texts = list(table["report"])
    model = rw.models.clip_tiny(rw.models.Tokenizer.train(texts), seed=0)
    x, tokens = model.preprocess(rw.data.images(table, model.size)), model.tokenizer(texts)
    task, ids, fast = Contrastive(model, table), torch.arange(len(texts)), rw.models.fast_precision()

    def peer():
        model.net.zero_grad()
        net = model.net
        loss = ClipLoss()(
            net.encode_image(x, normalize=True), net.encode_text(tokens, normalize=True), net.logit_scale.exp()
        )
        loss.backward()
        return loss.item()

    def ours(precision=fast):
        model.net.zero_grad()
        backend = [SDPBackend.MATH] if precision == "bf16-mixed" else list(SDPBackend.__members__.values())
        with autocast(model.device, precision), sdpa_kernel(backend):
            loss = task(x, tokens, ids)
        loss.backward()
        return loss.item()

    assert abs(ours("32-true") - peer()) < 1e-4
    seconds = timed({"ours": ours, "peer": peer}, 5)
    bound = 1.6 if fast == "bf16-mixed" else 1.0
    equal = "fp32 losses within 1e-4"
    return row(f"CLIP step, {fast}", "img/s", len(texts), seconds, bound=bound, of="ratio", equal=equal)


def bootstrap() -> dict:
    """1,000 resamples of 2,000 images of 1,000 patients; of the loop over scikit-learn a tenth is run, times ten."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    patients, y = np.repeat(np.arange(1000), 2), (rng.random(2000) < 0.2).astype(int)
    s = np.round(y + rng.normal(size=2000), 2)  # rounded: with ties

    def peer(n_boot=100):
        of, counts = rw.probe.resample_patients(patients, n_boot=1000, seed=0)
        return np.array([roc_auc_score(y, s, sample_weight=counts[of, b]) for b in range(n_boot)])

    def ours():
        return rw.probe.bootstrap(y, s, patients, n_boot=1000, seed=0)

    assert np.abs(ours()[:100] - peer()).max() < 1e-6
    seconds = timed({"ours": ours, "peer": peer}, 5)
    seconds["peer"] = [10 * t for t in seconds["peer"]]
    equal = "resample by resample within 1e-6"
    return row("bootstrap AUROC", "resamples/s", 1000, seconds, bound=20, of="ratio", equal=equal)


def import_time() -> dict:
    """`import radwb` beyond a bare Python; torch must not come with it."""

    def start(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    start("import sys, radwb; assert 'torch' not in sys.modules")()
    seconds = timed({"ours": start("import radwb"), "bare": start("pass")}, 7)
    bare = statistics.median(seconds.pop("bare"))
    seconds["ours"] = [max(1e-3, s - bare) for s in seconds["ours"]]
    return row("import radwb", "1/s", 1, seconds, bound=1 / 0.3, of="ours", equal="without torch")


ROWS = {"simulate": simulate, "simulate-512": simulate_large, "clip": clip_step, "bootstrap": bootstrap,
        "import": import_time, **EMBEDDING, **ATTENTION, **VOLUMES, **BROWSER}  # fmt: skip


def main(names: list[str]) -> int:
    rows = []
    for name in tqdm(names or list(ROWS), desc="bench"):
        r = ROWS[name]()
        if r is None:
            tqdm.write(f"{name}: not measured, its peer is not installed (grad-cam; playwright and Chromium)")
            continue
        rows.append(r)
        peer = f"{r['peer']:.3g}" if r["peer"] else "-"
        ratio = f"{r['ratio']:.2f}x" if r["ratio"] else "-"
        tqdm.write(f"{r['row']:22} ours {r['ours']:8.3g} {r['unit']:12} peer {peer:>8} ratio {ratio:>8} "
                   f"bound {r['bound']:.3g} ({'met' if r['met'] else 'NOT met'}) spread {r['spread']:.0%}")  # fmt: skip
        tqdm.write(f"    {r['equal']}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"cores": os.cpu_count(), "torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
