"""Speed against other libraries, each row gated on an equality check; never a timed
test.

python benchmarks/bench.py [ROW ...]        prints a row a goal and writes
build/bench.json
"""

import json
import os
import statistics
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from attention import ATTENTION
from browser import BROWSER
from copies import COPIES
from embedding import EMBEDDING
from explorer import EXPLORER
from films import FILMS
from rows import row, timed
from tqdm import tqdm
from volumes import VOLUMES

import radwb as rw

OUT = Path(__file__).parents[1] / "build" / "bench.json"


def simulate(size=160, n=120, bound=30.0) -> dict:
    """Radiographs a second with masks and devices, written to disk; the same seed gives
    the same pixels.
    """
    seed = iter(range(1000, 2000))
    anatomy = rw.simulate.default_anatomy(
        345 / size
    )  # a cohort of a given anatomy is made anew, never read
    first, again = (
        rw.data.images(
            rw.simulate.cohort(n=8, seed=999, size=size, anatomy=anatomy, workers=w),
            size,
        )
        for w in (1, 3)
    )
    assert (first == again).all()
    seconds = timed(
        {
            "ours": lambda: rw.simulate.cohort(
                n=n, seed=next(seed), size=size, anatomy=anatomy
            )
        },
        3,
    )
    return row(
        f"simulate {size} px",
        "img/s",
        n,
        seconds,
        bound=bound,
        of="ours",
        equal="same seed, same pixels",
    )


def simulate_large() -> dict:
    return simulate(512, 48, 4.0)


def clip_step() -> dict:
    """One step of CLIP on 64 pairs as `fit` takes it, against open_clip's own forward
    and loss under autocast.

    ViT-Ti/16 at 128 px, twelve blocks deep, one channel, and clip-tiny's text tower;
    captions are the simulator's. The peer is the same network: its whole context of 64
    tokens, torch's choice of attention. Timed too with clip-tiny's stem of
    convolutions, which is a sixth of the work and the same for both.
    """
    from open_clip.loss import ClipLoss
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from radwb.models.attention import explicit_attention
    from radwb.models.model import autocast
    from radwb.pretrain import cost
    from radwb.pretrain.captions import Captions
    from radwb.pretrain.recipes import Contrastive

    table = rw.simulate.cohort(n=240, seed=0)
    tokenizer = rw.models.Tokenizer.train(table["report"])
    rows = np.unique(
        Captions(list(table["report"]), tokenizer).rows, return_index=True
    )[1][:64]
    table = table.iloc[np.sort(rows)]
    model = rw.models.clip_tiny(tokenizer, seed=0, shape={"layers": 12})
    task = Contrastive(model, table)
    fast = rw.models.fast_precision()
    net = model.net
    x, (tokens, ids) = (
        model.preprocess(rw.data.images(table, model.size)),
        task.targets(np.arange(len(table))),
    )
    assert (
        len(set(ids.tolist())) == 64
    )  # else open_clip would count an equal caption as wrong
    stem = net.visual.conv1
    torch.manual_seed(0)
    cut = torch.nn.Conv2d(
        1, stem[-3].out_channels, 16, 16, bias=False
    )  # as open_clip cuts patches

    def peer(precision=fast, math=False):
        net.zero_grad()
        allowed = [SDPBackend.MATH] if math else list(SDPBackend.__members__.values())
        with autocast(model.device, precision), sdpa_kernel(allowed):
            loss = ClipLoss()(*net(x, tokens)[:3])
            loss.backward()
        return loss.item()

    def ours(precision=fast):
        net.zero_grad()
        with (
            autocast(model.device, precision),
            explicit_attention(net) if fast == "bf16-mixed" else nullcontext(),
        ):
            loss = task(x, tokens, ids)
            loss.backward()
        return loss.item()

    def ratios(first):
        net.visual.conv1 = first
        assert abs(ours("32-true") - peer("32-true")) < 1e-4
        calls = {
            "ours": ours,
            "peer": peer,
            "math": lambda: peer(math=True),
            "fp32": lambda: peer("32-true"),
        }
        seconds = timed(calls, 5)
        return seconds, {
            k: np.median(seconds[k]) / np.median(seconds["ours"])
            for k in ("peer", "math", "fp32")
        }

    _, with_stem = ratios(stem)
    seconds, times = ratios(cut)
    flops = (
        cost.step_flops(task, x, (tokens, ids), fast)
        * len(x)
        / np.median(seconds["ours"])
    )
    equal = (
        f"fp32 losses within 1e-4; {times['math']:.2f}x of its explicit attention, "
        f"{times['fp32']:.2f}x of fp32; "
        f"{flops / cost.peak_flops('cpu', fast):.0%} of the fastest matrix product; "
        f"with clip-tiny's stem {with_stem['peer']:.2f}x, {with_stem['math']:.2f}x"
    )
    bound = 1.6 if fast == "bf16-mixed" else 1.0
    seconds = {who: seconds[who] for who in ("ours", "peer")}
    return row(
        f"CLIP step, {fast}",
        "img/s",
        len(x),
        seconds,
        bound=bound,
        of="ratio",
        equal=equal,
    )


def bootstrap() -> dict:
    """1,000 resamples of 2,000 images of 1,000 patients; of the loop over scikit-learn
    a tenth is run, times ten.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    patients, y = np.repeat(np.arange(1000), 2), (rng.random(2000) < 0.2).astype(int)
    s = np.round(y + rng.normal(size=2000), 2)  # rounded: with ties

    def peer(n_boot=100):
        of, counts = rw.stats.resample_patients(patients, n_boot=1000, seed=0)
        return np.array(
            [roc_auc_score(y, s, sample_weight=counts[of, b]) for b in range(n_boot)]
        )

    def ours():
        return rw.stats.bootstrap(y, s, patients, n_boot=1000, seed=0)

    assert np.abs(ours()[:100] - peer()).max() < 1e-6
    seconds = timed({"ours": ours, "peer": peer}, 5)
    seconds["peer"] = [10 * t for t in seconds["peer"]]
    equal = "resample by resample within 1e-6"
    return row(
        "bootstrap AUROC",
        "resamples/s",
        1000,
        seconds,
        bound=20,
        of="ratio",
        equal=equal,
    )


def import_time() -> dict:
    """`import radwb` beyond a bare Python; torch must not come with it."""

    def start(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    start("import sys, radwb; assert 'torch' not in sys.modules")()
    seconds = timed({"ours": start("import radwb"), "bare": start("pass")}, 7)
    bare = statistics.median(seconds.pop("bare"))
    seconds["ours"] = [max(1e-3, s - bare) for s in seconds["ours"]]
    return row(
        "import radwb",
        "1/s",
        1,
        seconds,
        bound=1 / 0.3,
        of="ours",
        equal="without torch",
    )


ROWS = {
    "simulate": simulate,
    "simulate-512": simulate_large,
    "clip": clip_step,
    "bootstrap": bootstrap,
    "import": import_time,
    **EMBEDDING,
    **ATTENTION,
    **VOLUMES,
    **BROWSER,
    **EXPLORER,
    **COPIES,
    **FILMS,
}


def write_row(r):
    peer = f"{r['peer']:.3g}" if r["peer"] else "-"
    ratio = f"{r['ratio']:.2f}x" if r["ratio"] else "-"
    tqdm.write(
        f"{r['row']:22} ours {r['ours']:8.3g} {r['unit']:12} peer {peer:>8} "
        f"ratio {ratio:>8} bound {r['bound']:.3g} "
        f"({'met' if r['met'] else 'NOT met'}) spread {r['spread']:.0%}"
    )
    tqdm.write(f"    {r['equal']}")


def main(names: list[str]) -> int:
    rows = []
    for name in tqdm(names or list(ROWS), desc="bench"):
        found = ROWS[name]()
        if found is None:
            tqdm.write(
                f"{name}: not measured, its peer is not installed "
                "(grad-cam; playwright and Chromium; imagehash; faiss-cpu)"
            )
            continue
        found = found if isinstance(found, list) else [found]
        rows += found
        for r in found:
            write_row(r)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(
        json.dumps(
            {"cores": os.cpu_count(), "torch": torch.__version__, "rows": rows},
            indent=1,
        )
        + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
