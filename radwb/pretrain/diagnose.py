"""What embeddings tell about a run, while it goes and after: numbers with thresholds,
each beside a control.

Where the thresholds come from: in `fit` on the simulator, a healthy CLIP or classifier
has a mean cosine of 0.1 to 0.5 and an effective rank of 14 among 192 dimensions; an
untrained one 0.98 and 9, for it looks through a narrow cone (Liang et al. 2022); one
stuck at ln(batch) 1.00 and 1.5.
"""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.special import entr

from radwb import data, models
from radwb.pretrain.captions import caption_of
from radwb.pretrain.run import Run

STUCK_SHARE = (
    0.98  # of a guess's loss, CLIP's ln(batch): above it no pair is told from another
)
NARROW = 0.97  # mean cosine: above it, all look alike
RANK_SHARE, RANK_LEAST = (
    0.05,
    3.0,
)  # effective rank: the least, as a share of random vectors' and as a number
DEAD, DEAD_SHARE = (
    0.01,
    0.1,
)  # a dimension that spreads less than 1 % of the usual is dead; a tenth may be
MEMORISED = (
    0.5  # share of what training gained on a guess that held-out patients don't see
)
SHUFFLES, OWN = 39, "own text first"  # the best of 39 is passed by chance once in 40
LOSSES, SPREAD = (
    ("loss against a guess", "memorised"),
    ("effective rank", "mean cosine", "dead dimensions"),
)


def effective_rank(Z) -> float:
    """How many dimensions embeddings use: exp of the entropy of their normalised
    singular values.

    >>> effective_rank(np.eye(8))       # (N, E), not centred; Roy & Vetterli 2007; RankMe, Garrido et al. 2023
    8.0
    """
    s = np.linalg.svd(_array(Z), compute_uv=False)
    return float(np.exp(entr(s / max(s.sum(), 1e-12)).sum()))


def alignment(a, b) -> float:
    """Mean squared distance of (N, E) partners on the unit sphere (Wang & Isola 2020);
    0 is best, 2 is a guess.
    """
    return float(((_unit(a) - _unit(b)) ** 2).sum(1).mean())


def uniformity(Z) -> float:
    """Log of the mean of exp(-2 d^2) over all pairs of (N, E) on the sphere (Wang &
    Isola 2020); 0 is a collapse.
    """
    Z = _unit(Z)
    return float(np.log(np.exp(-4 + 4 * (Z @ Z.T)[np.triu_indices(len(Z), 1)]).mean()))


def modality_gap(images, texts) -> float:
    """Distance, 0 to 2, of the mean of (N, E) images from that of (K, E) texts on the
    sphere (Liang et al. 2022).
    """
    return float(np.linalg.norm(_unit(images).mean(0) - _unit(texts).mean(0)))


def mean_cosine(Z) -> float:
    """Mean cosine of two different rows of (N, E); 1 is a collapse, 0 a spread in all
    directions.
    """
    Z, N = _unit(Z), len(Z)
    return float(((Z.sum(0) ** 2).sum() - N) / (N * (N - 1)))


def dead(Z) -> float:
    """Share of the dimensions of (N, E) that spread less than 1 % of the root mean
    square spread; 1 if none does.
    """
    spread = _array(Z).std(0)
    return float((spread <= max(DEAD * np.sqrt((spread**2).mean()), 1e-9)).mean())


def stuck(loss: float, guess: float) -> bool:
    """Whether a contrastive loss is within 2 % of that of a guess (CLIP's is
    ln(batch)), where all look alike.
    """
    return loss > STUCK_SHARE * guess


def least_rank(n: int, e: int, *, distinct: float = math.inf, seed: int = 0) -> float:
    """What the rank of (n, e) must reach: 5 % of random vectors' and 3, but half of the
    `distinct` texts suffice.
    """
    return min(
        max(RANK_LEAST, RANK_SHARE * _random_rank(n, e, seed)), min(n, e, distinct) / 2
    )


def collapse(Z, *, of: str = "image", distinct: float = math.inf) -> str:
    """A sentence when (N, E) embeddings have collapsed to a point or to a few
    dimensions, else "".
    """
    cosine, rank, least = (
        mean_cosine(Z),
        effective_rank(Z),
        least_rank(*np.shape(Z), distinct=distinct),
    )
    if cosine > NARROW:
        return f"collapse: the mean cosine of {of} embeddings is {cosine:.3f} (above {NARROW}), so all look alike"
    said = f"dimensional collapse: the effective rank of {of} embeddings is {rank:.1f} (below {least:.1f})"
    return said if rank < least else ""


class Watch:
    """Looks at the held-out embeddings where an epoch ends.

    >>> watch = Watch(captions); row |= watch(Zi, Zt)       # 'effective_rank': 14.1, 'uniformity': -3.1, ...

    Args:
        captions: N identities of the held-out texts or labels; fewer of them leave
            fewer dimensions to use.
        patience: looks in a row that must show a collapse before it is called one.
    """

    def __init__(self, captions: Sequence | None = None, *, patience: int = 2):
        # one row a caption: that equal texts lie in one place is no collapse
        self.first = (
            slice(None)
            if captions is None
            else np.unique(np.asarray(captions), return_index=True)[1]
        )
        self.distinct, self.patience, self.seen = (
            math.inf if captions is None else len(self.first),
            patience,
            0,
        )

    def __call__(self, Zi, Zt=None, *, late: bool = True) -> dict:
        """(N, E) images and their texts, if any -> columns for the log's row, and
        `warning` when a collapse has lasted.

        With late=False nothing is judged: every run starts in a narrow cone.
        """
        if len(Zi) < 2:
            return {}
        out = {"effective_rank": effective_rank(Zi), "uniformity": uniformity(Zi)}
        said = collapse(Zi, distinct=self.distinct)
        if Zt is not None:
            out["alignment"] = alignment(Zi, Zt)
            texts = _array(Zt)[self.first]
            said = said or (
                collapse(texts, of="text", distinct=self.distinct)
                if len(texts) > 1
                else ""
            )
        self.seen = self.seen + 1 if said and late else 0
        return out | ({"warning": said} if self.seen >= self.patience else {})


def diagnose(
    run_or_model: Run | models.Model,
    table: pd.DataFrame,
    *,
    n: int = 256,
    seed: int = 0,
) -> pd.DataFrame:
    """Is a model healthy? One row a check, each beside a control; the thresholds are
    this module's constants.

    >>> rw.pretrain.diagnose(run, table)[["name", "value", "control", "verdict"]]

    Args:
        run_or_model: a Run also has its losses looked at.
        table: its rows with split "val" are embedded; all rows where there are none,
            and the sentence says so.
        n: rows that are drawn, at most. `seed` is that of the draw and of all controls.
    Returns:
        name, value, control, verdict ("ok", "warning", "not applicable") and says, a
        sentence.
    """
    run, model = (
        (run_or_model, run_or_model.model)
        if isinstance(run_or_model, Run)
        else (None, run_or_model)
    )
    rows, where = (
        table[table["split"] == "val"] if "split" in table else table[:0],
        "held-out images",
    )
    rows, where = (
        (rows, where) if len(rows) > 1 else (table, "images, none of them held out,")
    )
    if len(rows) < 2:
        raise ValueError(f"expected a table of at least 2 rows, got {len(rows)}")
    if model.kind == "image-text":
        rows = rows[[caption_of(report) != "" for report in rows["report"]]]
    if len(rows) < 2:
        raise ValueError(f"expected at least 2 rows with a report, got {len(rows)}")
    rows = rows.sample(min(n, len(rows)), random_state=seed)
    images = data.images(rows, model.size, fit=model.fit)
    twin = untrained(model, seed=seed)
    Z, Z0 = (models.embed(m, images) for m in (model, twin))  # (N, E)
    checks = (
        _losses(run)
        if run
        else [_row(name, "a model has no log, a Run has") for name in LOSSES]
    )
    if model.kind == "image-text":
        texts, ids = np.unique(
            [caption_of(r) for r in rows["report"]], return_inverse=True
        )
        with torch.no_grad():
            T, T0 = (
                _array(m.encode_text(texts.tolist())) for m in (model, twin)
            )  # (U, E)
        checks += _spread("image", Z, Z0, len(texts), seed) + _spread(
            "text", T, T0, len(texts), seed
        )
        checks.append(_retrieval(Z, T, (Z0 @ T0.T).argmax(1), ids, where, seed))
    else:
        known = [f for f in model.findings or () if f in rows]
        checks += _spread(
            "image",
            Z,
            Z0,
            len(rows[known].drop_duplicates()) if known else math.inf,
            seed,
        )
        checks += [
            _row(name, "the model has no text tower")
            for name in (*(f"{s}, texts" for s in SPREAD), OWN)
        ]
    return pd.DataFrame(checks, columns=["name", "value", "control", "verdict", "says"])


def if_healthy(checks: pd.DataFrame, sentence: str) -> str:
    """A sentence about what a run learned, or, where it is stuck or has collapsed, that
    nothing is read from it.

    >>> rw.pretrain.if_healthy(rw.pretrain.diagnose(run, table), f"It finds {hits.mean():.0%} of the reports.")

    Args:
        checks: what `diagnose` says of the run. A run that has memorised its films is
            read all the same.
        sentence: what would be said.
    """
    ill = checks[(checks["verdict"] == "warning") & (checks["name"] != LOSSES[1])]
    if ill.empty:
        return sentence
    return f"**This run is not interpreted**, since it is not healthy: {'; '.join(ill['says'])}."


def untrained(model: models.Model, *, seed: int = 0) -> models.Model:
    """The model as before training: a tiny one drawn anew, of another each layer that
    knows how it is drawn.
    """
    if model.spec.get("builder") == "clip-tiny":
        return models.clip_tiny(
            model.tokenizer, seed=seed, shape=model.spec["shape"]
        ).to(model.device)
    if model.spec.get("builder") == "supervised-tiny":
        return models.supervised_tiny(
            model.findings or [], seed=seed, shape=model.spec["shape"]
        ).to(model.device)
    twin = copy.copy(model)
    twin.net = copy.deepcopy(model.net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in twin.net.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    return twin


def _losses(run):
    log, made = run.log, run.config["identity"]
    last, known = (
        log[log["epoch"] == log["epoch"].max()]["loss"].mean(),
        run.config.get("guess"),
    )
    guess = known or log["loss"].head(5).mean()
    says = f"loss {last:.2f} in the last epoch; near {guess:.2f}, that of a guess, all pairs look alike"
    first = (
        _row(LOSSES[0], says, last, guess, stuck(last, guess))
        if known
        else _row(LOSSES[0], f"the loss of a guess isn't known for {made['recipe']}")
    )
    val = log["val_loss"].dropna().tolist()[-1:] if "val_loss" in log else []
    if not val or guess - last < 0.02 * guess:
        return [
            first,
            _row(
                LOSSES[1],
                "nothing is learned yet" if val else "the log has no validation loss",
            ),
        ]
    lost = (val[0] - last) / (guess - last)
    says = f"of the gain on {guess:.2f}, {max(lost, 0):.0%} is not there on held-out rows (at most {MEMORISED:.0%})"
    return [first, _row(LOSSES[1], says, val[0], last, lost > MEMORISED)]


def _spread(of, Z, Z0, distinct, seed):
    """Effective rank, mean cosine and dead dimensions of one tower."""
    (N, E), names = Z.shape, [f"{s}, {of}s" for s in SPREAD]
    if N < 2:
        return [_row(name, f"there is only one {of}") for name in names]
    chance, least = (
        _random_rank(N, E, seed),
        least_rank(N, E, distinct=distinct, seed=seed),
    )
    now, before = ((effective_rank(z), mean_cosine(z), dead(z)) for z in (Z, Z0))
    says = (
        f"{now[0]:.1f} of {E} dimensions are in use; untrained {before[0]:.1f}, random {chance:.1f}; "
        f"below {least:.1f} is a collapse",
        f"{N} {of}s have a cosine of {now[1]:.2f} on average; above {NARROW} all look alike",
        f"{now[2]:.0%} of {E} dimensions are the same for all {of}s; at most {DEAD_SHARE:.0%} may be",
    )
    return list(
        map(
            _row,
            names,
            says,
            now,
            before,
            (now[0] < least, now[1] > NARROW, now[2] > DEAD_SHARE),
        )
    )


def _retrieval(Z, T, before, ids, where, seed):
    """How many of (N, E) images are nearest to their own of (U, E) texts; before: the
    untrained twin's (N,) picks.
    """
    rng, top = np.random.default_rng(seed), (Z @ T.T).argmax(1)  # (N,)
    hit, hit0 = (top == ids).mean(), (before == ids).mean()
    best = max((top == rng.permutation(ids)).mean() for _ in range(SHUFFLES))
    says = f"{hit:.0%} of {len(ids)} {where} pick theirs of {len(T)} texts; shuffled {best:.0%}, untrained {hit0:.0%}"
    return _row(OWN, says, hit, max(best, hit0), hit <= max(best, hit0))


def _row(name, says, value=math.nan, control=math.nan, bad=None):
    return (
        name,
        float(value),
        float(control),
        "not applicable" if bad is None else ("ok", "warning")[bool(bad)],
        says,
    )


def _array(Z):
    Z = (
        Z.detach().float().cpu().numpy()
        if isinstance(Z, torch.Tensor)
        else np.asarray(Z)
    )
    if Z.ndim != 2 or not np.isfinite(Z).all():
        raise ValueError(
            f"expected (N, E) values, got {Z.shape}, {(~np.isfinite(Z)).sum()} not finite. Try a lower lr"
        )
    return Z.astype(np.float64)


def _unit(Z):
    return F.normalize(torch.from_numpy(_array(Z)), dim=-1).numpy()


def _random_rank(n, e, seed):
    return effective_rank(_unit(np.random.default_rng(seed).normal(size=(n, e))))
