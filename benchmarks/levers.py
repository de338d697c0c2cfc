"""How far does a simulator carry, and what carries it? A lever at a time, three seeds.

python benchmarks/levers.py [LEVER ...]     trains and measures; build/levers/*.json
python benchmarks/levers.py --small         the same in miniature, to see that it runs

Each lever changes one thing of the recipe of `radwb-tiny` at half its budget: as many
films, as many passes. A run is a process of its own, which trains and then asks the
protocol of `real_films.py`: rows of the tuning half go to LEVER-SEED.tune.json, what is
read once at the end to LEVER-SEED.report.json. A run that is there already isn't run
again. Cohorts are made first, beside each other; trainings begin as their films are
there.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

import radwb as rw

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)
COHORT_SEED = 1  # of the films that are trained on, as radwb-tiny's
UNSEEN_SEED = 7  # of virtual patients that nothing was chosen on


@dataclass(frozen=True)
class Budget:
    """What each run may use, whatever its lever."""

    films: int
    epochs: int
    unseen: int


FULL = Budget(films=7200, epochs=16, unseen=1200)
SMALL = Budget(films=160, epochs=1, unseen=60)


@dataclass(frozen=True)
class Lever:
    """What differs from the base.

    Attributes:
        dials: of the simulator.
        fit: arguments of `rw.pretrain.fit`.
        real: sets of real films that are seen without labels beside the virtual ones.
    """

    dials: dict = field(default_factory=dict)
    fit: dict = field(default_factory=dict)
    real: tuple[str, ...] = ()


LOOKS = {"looks": 1.0}
BUILDS = {"builds": 1.0}
WORDS = {"wording": "wide"}
VARIED = LOOKS | BUILDS
STRONG = {"augmentation": "strong"}
TUNING = ("nih-64", "kermany", "hannover")  # their tuning halves
MORE = (*TUNING, "kermany-more")
LEVERS = {
    "base": Lever(),
    "together": Lever(dials=VARIED | WORDS, fit=STRONG, real=MORE),
    "virtual only": Lever(dials=VARIED | WORDS, fit=STRONG),
    "looks": Lever(dials=LOOKS),
    "builds": Lever(dials=BUILDS),
    "strong augmentation": Lever(fit=STRONG),
    "real films": Lever(real=TUNING),
    "more real films": Lever(real=MORE),
    "equalised": Lever(fit={"tone": "equalised"}),
    "wording": Lever(dials=WORDS),
    "larger": Lever(fit={"size": 160, "shape": {"layers": 5}}),
}


def cohort_of(lever: Lever, budget: Budget):
    """The virtual films of a lever; one patient in 28 is kept to follow the run."""
    dials = rw.simulate.Dials(**lever.dials)
    table = rw.simulate.cohort(n=budget.films, seed=COHORT_SEED, dials=dials)
    patients = sorted(table["patient_id"].unique())
    held_out = table["patient_id"].isin(patients[::28])
    return table.assign(split=held_out.map({True: "val", False: "train"}))


def unseen(budget: Budget):
    """Plain virtual patients that no run has seen."""
    return rw.simulate.cohort(n=budget.unseen, seed=UNSEEN_SEED)


def run(name: str, seed: int, budget: Budget, out: Path) -> None:
    """Train one lever with one seed, and ask it, in a process begun for it."""
    from real_films import as_json, headline, measure

    lever = LEVERS[name]
    options = dict(lever.fit)
    if lever.real:
        options["beside"] = unlabelled(lever.real)
    began = time.monotonic()
    trained = rw.pretrain.fit(
        cohort_of(lever, budget),
        recipe="sentences-tiny",
        out=out / "runs" / f"{name}-{seed}",
        epochs=budget.epochs,
        batch=64,
        lr=1e-3,
        seed=seed,
        **options,
    )
    about = {"lever": name, "seed": seed, "seconds": trained.config["seconds"]}
    model = trained.model.to("cpu")
    virtual = on_virtual(model, budget)
    for half in ("tune", "report"):
        rows = measure(model, half, seed=seed, towers=False)
        found = about | {"virtual": virtual, "headline": headline(rows)}
        found["rows"] = as_json(rows)
        found["all_s"] = time.monotonic() - began
        path = out / f"{name}-{seed}.{half}.json"
        path.write_text(json.dumps(found, default=float) + "\n")


def unlabelled(sets) -> pd.DataFrame:
    """Films without labels: of a set that is measured on, the tuning half alone."""
    from real_halves import UNLABELLED, in_half

    films = []
    for name in sets:
        table = rw.data.real(name)
        films.append(in_half(table, "tune") if name in UNLABELLED else table)
    return pd.concat(films)[["path", "patient_id"]].assign(split="train")


def on_virtual(model, budget) -> dict[str, float]:
    """Mean AUROC in words on unseen plain virtual patients, by each way to ask."""
    table = unseen(budget)
    findings = list(rw.simulate.PLANTED)
    embeddings = rw.models.embed(model, table)
    means = {}
    for pool in ("pair", "any"):
        asked = rw.probe.zero_shot(
            model, table, findings, pool=pool, embeddings=embeddings
        )
        means[pool] = float(asked.mean_auroc()["auroc"].iloc[0])
    return means


def all_runs(names, budget, out, workers, seeds=SEEDS) -> None:
    """Cohorts beside each other, and trainings as soon as their films are there."""
    out.mkdir(parents=True, exist_ok=True)
    cohorts = {}
    with ThreadPoolExecutor(len(LEVERS)) as makers, ThreadPoolExecutor(workers) as pool:
        for name in names:
            key = json.dumps(LEVERS[name].dials)
            if key not in cohorts:
                cohorts[key] = makers.submit(alone, ["--cohort", name], budget, out)
        runs = []
        for seed in seeds:
            for name in names:
                films = cohorts[json.dumps(LEVERS[name].dials)]
                words = ["--run", name, str(seed)]
                runs.append(pool.submit(after, films, words, budget, out))
        wait(runs)


def after(films, words, budget, out) -> None:
    """One run, when its films are made."""
    films.result()
    if not (out / f"{words[1]}-{words[2]}.report.json").exists():
        alone(words, budget, out)


def alone(words, budget, out) -> None:
    """This file with other words, in a process of its own; its output in a file."""
    command = [sys.executable, __file__, *words, "--out", str(out)]
    command += ["--small"] * (budget == SMALL)
    began = time.monotonic()
    with open(out / f"{'-'.join(words).strip('-')}.log", "w") as log:
        code = subprocess.run(command, stdout=log, stderr=log).returncode
    print(f"{time.monotonic() - began:5.0f} s", *words, f"exit {code}", flush=True)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("levers", nargs="*", help=", ".join(LEVERS))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "levers")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time")
    parser.add_argument("--cohort", help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    budget = SMALL if given.small else FULL
    if given.cohort:
        cohort_of(LEVERS[given.cohort], budget)
        unseen(budget)
    elif given.run:
        name, seed = given.run
        run(name, int(seed), budget, given.out)
    else:
        all_runs(given.levers or list(LEVERS), budget, given.out, given.workers)


if __name__ == "__main__":
    main(sys.argv[1:])
