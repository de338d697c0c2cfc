"""Is a model healthy? Checks with thresholds, each beside a control."""

import copy
import math

import numpy as np
import pandas as pd
import torch

from radwb import data, models
from radwb.pretrain.captions import caption_of
from radwb.pretrain.measures import (
    NARROW,
    as_array,
    dead,
    effective_rank,
    least_rank,
    mean_cosine,
    random_rank,
    stuck,
)
from radwb.pretrain.run import Run

DEAD_SHARE = 0.1  # of the dimensions may be dead
# share of what training gained on a guess that held-out patients don't see
MEMORISED = 0.5
SHUFFLES = 39  # the best of 39 is passed by chance once in 40
LOSSES = ("loss against a guess", "memorised")
SPREAD = ("effective rank", "mean cosine", "dead dimensions")
OWN_TEXT = "own text first"
COLUMNS = ["name", "value", "control", "verdict", "says"]


def diagnose(
    run_or_model: Run | models.Model,
    table: pd.DataFrame,
    *,
    n: int = 256,
    seed: int = 0,
) -> pd.DataFrame:
    """Is a model healthy? One row a check, each beside a control.

    The thresholds are constants of this module and of `measures`.

    >>> rw.pretrain.diagnose(run, table)["name"].head(2).tolist()
    ['loss against a guess', 'memorised']

    Args:
        run_or_model: a Run also has its losses looked at.
        table: its rows with split "val" are embedded; all rows where there are none,
            and the sentence says so.
        n: rows that are drawn, at most.
        seed: of the draw and of all controls.
    Returns:
        name, value, control, verdict ("ok", "warning", "not applicable") and says, a
        sentence.
    Raises:
        ValueError: fewer than two rows, or than two with a report.
    """
    if isinstance(run_or_model, Run):
        model = run_or_model.model
        checks = _losses(run_or_model)
    else:
        model = run_or_model
        checks = _not_applicable(LOSSES, "a model has no log, a Run has")
    rows, where = _held_out(table, with_report=model.kind == "image-text")
    rows = rows.sample(min(n, len(rows)), random_state=seed)
    images = data.images(rows, model.size, fit=model.fit)
    twin = untrained(model, seed=seed)
    Z, Z0 = (models.embed(m, images) for m in (model, twin))  # (N, E)
    if model.kind == "image-text":
        captions = [caption_of(report) for report in rows["report"]]
        texts, ids = np.unique(captions, return_inverse=True)
        T, T0 = (_embedded(m, texts) for m in (model, twin))  # (U, E)
        checks += _spread("image", Z, Z0, len(texts), seed)
        checks += _spread("text", T, T0, len(texts), seed)
        checks.append(_retrieval(Z @ T.T, Z0 @ T0.T, ids, where, seed))
    else:
        checks += _spread("image", Z, Z0, _distinct_labels(model, rows), seed)
        names = [f"{measure}, texts" for measure in SPREAD]
        checks += _not_applicable([*names, OWN_TEXT], "the model has no text tower")
    return pd.DataFrame(checks, columns=COLUMNS)


def if_healthy(checks: pd.DataFrame, sentence: str) -> str:
    """A sentence of yours about a run, or, where it is ill, that it isn't interpreted.

    Ill is a run that is stuck or has collapsed; one that has memorised its films is
    read all the same.

    >>> checks = rw.pretrain.diagnose(run, table)
    >>> text = rw.pretrain.if_healthy(checks, "It finds half of the reports.")

    Args:
        checks: what `diagnose` says of the run.
        sentence: what would be said.
    """
    ill = checks[(checks["verdict"] == "warning") & (checks["name"] != LOSSES[1])]
    if ill.empty:
        return sentence
    return (
        "**This run is not interpreted**, since it is not healthy: "
        f"{'; '.join(ill['says'])}."
    )


def untrained(model: models.Model, *, seed: int = 0) -> models.Model:
    """The model as before training.

    A tiny one is drawn anew, of another each layer that knows how it is drawn.
    """
    builder = model.spec.get("builder")
    if builder in ("clip-tiny", "supervised-tiny"):
        shape = model.spec["shape"]
        if builder == "clip-tiny":
            twin = models.clip_tiny(model.tokenizer, seed=seed, shape=shape)
        else:
            findings = model.findings or []
            twin = models.supervised_tiny(findings, seed=seed, shape=shape)
        twin.tone = model.tone
        return twin.to(model.device)
    twin = copy.copy(model)
    twin.net = copy.deepcopy(model.net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in twin.net.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    return twin


def _held_out(table, *, with_report):
    """The rows that a model is looked at on, and what they are, in words."""
    rows = table[table["split"] == "val"] if "split" in table else table[:0]
    where = "held-out images"
    if len(rows) < 2:
        rows = table
        where = "images, none of them held out,"
    if len(rows) < 2:
        raise ValueError(f"expected a table of at least 2 rows, got {len(rows)}")
    if with_report:
        rows = rows[[caption_of(report) != "" for report in rows["report"]]]
    if len(rows) < 2:
        raise ValueError(f"expected at least 2 rows with a report, got {len(rows)}")
    return rows, where


def _embedded(model, texts):
    with torch.no_grad():
        return as_array(model.encode_text(texts.tolist()))


def _distinct_labels(model, rows):
    labels = [finding for finding in model.findings or () if finding in rows]
    return len(rows[labels].drop_duplicates()) if labels else math.inf


def _losses(run):
    """The last loss against a guess's, and what of the gain held-out rows don't see."""
    log = run.log
    loss = log[log["epoch"] == log["epoch"].max()]["loss"].mean()
    known = run.config.get("guess")
    guess = known or log["loss"].head(5).mean()
    if known:
        first = _row(
            LOSSES[0],
            f"loss {loss:.2f} in the last epoch; "
            f"near {guess:.2f}, that of a guess, all pairs look alike",
            loss,
            guess,
            stuck(loss, guess),
        )
    else:
        recipe = run.config["identity"]["recipe"]
        (first,) = _not_applicable(
            LOSSES[:1], f"the loss of a guess isn't known for {recipe}"
        )
    return [first, _memorised(log, loss, guess)]


def _memorised(log, loss, guess):
    held_out = log["val_loss"].dropna() if "val_loss" in log else log["loss"][:0]
    gain = guess - loss
    why = ""
    if held_out.empty:
        why = "the log has no validation loss"
    elif gain < 0.02 * guess:
        why = "nothing is learned yet"
    if why:
        return _not_applicable(LOSSES[1:], why)[0]
    val_loss = held_out.iloc[-1]
    lost = (val_loss - loss) / gain
    return _row(
        LOSSES[1],
        f"of the gain on {guess:.2f}, {max(lost, 0):.0%} is not there on held-out rows "
        f"(at most {MEMORISED:.0%})",
        val_loss,
        loss,
        lost > MEMORISED,
    )


def _spread(of, Z, Z0, distinct, seed):
    """Effective rank, mean cosine and dead dimensions of one tower."""
    N, E = Z.shape
    names = [f"{measure}, {of}s" for measure in SPREAD]
    if N < 2:
        return _not_applicable(names, f"there is only one {of}")
    chance = random_rank(N, E, seed)
    least = least_rank(N, E, distinct=distinct, seed=seed)
    measures = (effective_rank, mean_cosine, dead)
    values = [measure(Z) for measure in measures]
    controls = [measure(Z0) for measure in measures]
    rank, cosine, share = values
    sentences = (
        f"{rank:.1f} of {E} dimensions are in use; untrained {controls[0]:.1f}, "
        f"random {chance:.1f}; below {least:.1f} is a collapse",
        f"{N} {of}s have a cosine of {cosine:.2f} on average; "
        f"above {NARROW} all look alike",
        f"{share:.0%} of {E} dimensions are the same for all {of}s; "
        f"at most {DEAD_SHARE:.0%} may be",
    )
    ill = (rank < least, cosine > NARROW, share > DEAD_SHARE)
    return list(map(_row, names, sentences, values, controls, ill))


def _retrieval(similarity, untrained, ids, where, seed):
    """How many of N images are nearest to their own of U texts.

    Args:
        similarity, untrained: (N, U) of the model and of its untrained twin.
        ids: (N,) which text is an image's own.
    """
    rng = np.random.default_rng(seed)
    nearest = similarity.argmax(1)  # (N,)
    hits = (nearest == ids).mean()
    hits0 = (untrained.argmax(1) == ids).mean()
    best = max((nearest == rng.permutation(ids)).mean() for _ in range(SHUFFLES))
    control = max(best, hits0)
    return _row(
        OWN_TEXT,
        f"{hits:.0%} of {len(ids)} {where} pick theirs of {similarity.shape[1]} texts; "
        f"shuffled {best:.0%}, untrained {hits0:.0%}",
        hits,
        control,
        hits <= control,
    )


def _row(name, sentence, value, control, bad):
    verdict = "warning" if bad else "ok"
    return name, float(value), float(control), verdict, sentence


def _not_applicable(names, why):
    return [(name, math.nan, math.nan, "not applicable", why) for name in names]
