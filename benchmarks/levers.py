"""How far does a simulator carry, and what carries it? A lever at a time, three seeds.

python benchmarks/levers.py [LEVER ...]     trains and measures; build/levers/*.json
python benchmarks/levers.py --small         the same in miniature, to see that it runs
python benchmarks/levers.py --release       candidates for radwb-tiny, too

Each lever changes one thing of `radwb-tiny`'s recipe, at a budget of its own that is
the same for all: as many virtual films, as many passes; real films without labels come
on top of them. A run is a process of its own, which trains and then asks the protocol
of `real_films.py`. NAME-SEED.tune.json holds what levers are chosen by; NAME-
SEED.report.json, of those that `REPORTED` names and that begin anew, is read once, at
the end. A run that is there already isn't run again. Cohorts are made beside each
other, and a training begins when its films are there.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

import radwb as rw

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)
THREADS = 4  # of a process that makes a cohort
UNSEEN_SEED = 7  # of virtual patients that nothing was chosen on


@dataclass(frozen=True)
class Budget:
    """What a run may use.

    Attributes:
        films: of each cohort.
        cohorts: their seeds; none is the notebooks' (0) or `UNSEEN_SEED`.
        unseen: films of plain virtual patients that it is asked about.
        start: weights to go on from; "" begins with random ones.
    """

    films: int
    epochs: int
    unseen: int
    cohorts: tuple[int, ...] = (1,)
    lr: float = 1e-3
    start: str = ""


BUDGETS = {
    "full": Budget(films=4800, epochs=20, unseen=1200),
    "continued": Budget(
        films=1200, epochs=5, unseen=600, cohorts=(2,), lr=5e-4, start="radwb-tiny-v2"
    ),
    "small": Budget(films=160, epochs=1, unseen=60),
    "release": Budget(films=4800, epochs=16, unseen=1200, cohorts=(1, 2, 3)),
}


@dataclass(frozen=True)
class Lever:
    """What differs from the base.

    Attributes:
        dials: of the simulator.
        fit: arguments of `rw.pretrain.fit`.
        real: sets of real films that are seen without labels beside the virtual ones.
        shape: of the model; weights that it goes on from are grown to it (`grow.py`).
    """

    dials: dict = field(default_factory=dict)
    fit: dict = field(default_factory=dict)
    real: tuple[str, ...] = ()
    shape: dict[str, int] = field(default_factory=dict)


LOOKS = {"looks": 1.0}
BUILDS = {"builds": 1.0}
WORDS = {"wording": "wide"}
EVERY = LOOKS | BUILDS | WORDS
STRONG = {"augmentation": "strong"}
EQUALISED = {"tone": "equalised"}
GROUNDED = {"recipe": "grounded-tiny"}
TUNING = ("nih-64", "kermany", "hannover")  # their tuning halves
MORE = (*TUNING, "kermany-more")
LEVERS = {
    "base": Lever(),
    "together": Lever(EVERY, STRONG | GROUNDED, MORE),
    "no real film": Lever(EVERY, STRONG | GROUNDED),
    "grounded": Lever(fit=GROUNDED),
    "more real films": Lever(real=MORE),
    "real films": Lever(real=TUNING),
    "strong augmentation": Lever(fit=STRONG),
    "equalised": Lever(fit=EQUALISED),
    "looks": Lever(LOOKS),
    "builds": Lever(BUILDS),
    "wording": Lever(WORDS),
    "160 px": Lever(shape={"size": 160}),
    "224 px": Lever(shape={"size": 224}),
    "one more block": Lever(shape={"layers": 5}),
    "larger": Lever(shape={"size": 160, "layers": 5}),
}
CANDIDATES = {
    "release together": LEVERS["together"],
    "release equalised": Lever(EVERY, STRONG | GROUNDED | EQUALISED, MORE),
}
REPORTED = ("base", "together", "no real film", *CANDIDATES)


def cohort_of(lever: Lever, budget: Budget, seed: int) -> pd.DataFrame:
    """Virtual films of one seed; one patient in 28 is kept to follow the run."""
    dials = rw.simulate.Dials(**lever.dials)
    table = rw.simulate.cohort(n=budget.films, seed=seed, dials=dials, workers=THREADS)
    patients = sorted(table["patient_id"].unique())
    held_out = table["patient_id"].isin(patients[::28])
    return table.assign(split=held_out.map({True: "val", False: "train"}))


def films_of(lever: Lever, budget: Budget) -> pd.DataFrame:
    """All virtual films that a run learns from."""
    cohorts = [cohort_of(lever, budget, seed) for seed in budget.cohorts]
    return pd.concat(cohorts, ignore_index=True)


def unseen(budget: Budget) -> pd.DataFrame:
    """Plain virtual patients that no run has seen."""
    return rw.simulate.cohort(n=budget.unseen, seed=UNSEEN_SEED)


def run(name: str, seed: int, budget: Budget, out: Path) -> None:
    """Train one lever with one seed, and ask it."""
    from real_halves import unlabelled

    lever = (LEVERS | CANDIDATES)[name]
    options = {"recipe": "sentences-tiny", "batch": 64, "lr": budget.lr} | lever.fit
    if budget.start:
        options["start"] = begun(
            budget.start, lever.shape, out / "grown" / f"{name}-{seed}"
        )
    elif lever.shape:
        options["shape"] = lever.shape
    if lever.real:
        films = unlabelled(lever.real)
        options["beside"] = rw.pretrain.Beside(films, "dino-tiny", share=0.5)
    trained = rw.pretrain.fit(
        films_of(lever, budget),
        out=out / "runs" / f"{name}-{seed}",
        epochs=budget.epochs,
        seed=seed,
        **options,
    )
    model = trained.model
    rw.models.save(model, out / "weights" / f"{name}-{seed}", half=True)
    config = trained.config
    about = {"lever": name, "seed": seed, "films": config["n_train"]}
    about |= {key: config[key] for key in ("seconds", "images_per_s", "cost")}
    asked(model, about, budget, out)


def begun(start: str, shape: dict[str, int], folder: Path) -> str:
    """The name of the weights to go on from, or the folder where they are grown."""
    from grow import grown

    if not shape:
        return start
    return str(rw.models.save(grown(rw.models.load(start), **shape), folder))


def asked(model: rw.models.Model, about: dict, budget: Budget, out: Path) -> None:
    """The protocol's rows; of the reporting half where something hangs on it."""
    from real_films import as_json, headline, measure

    about = about | {"virtual": on_virtual(model, budget)}
    reported = about["lever"] in REPORTED and not budget.start
    halves = ("tune", "report") if reported else ("tune",)
    for half in halves:
        rows = measure(model, half, seed=about["seed"], towers=False)
        found = about | {"headline": headline(rows), "rows": as_json(rows)}
        path = out / f"{about['lever']}-{about['seed']}.{half}.json"
        path.write_text(json.dumps(found, default=float) + "\n")


def on_virtual(model: rw.models.Model, budget: Budget) -> dict[str, float]:
    """Mean AUROC in words on unseen plain virtual patients, by each way to ask."""
    table = unseen(budget)
    findings = list(rw.simulate.PLANTED)
    embeddings = rw.models.embed(model, table)
    means = {}
    for pool in ("pair", "any"):
        scores = rw.probe.zero_shot(
            model, table, findings, pool=pool, embeddings=embeddings
        )
        means[pool] = float(scores.mean_auroc()["auroc"].iloc[0])
    return means


class Schedule:
    """Processes: cohorts beside each other, trainings as their films are there.

    Args:
        out: where logs and figures go.
        workers: trainings at a time.
    """

    def __init__(self, out: Path, workers: int):
        self.out = out
        self.began = time.monotonic()
        self.cohorts = {}
        self.makers = ThreadPoolExecutor(16)
        self.trainers = ThreadPoolExecutor(workers)

    def cohort(self, name: str, lever: Lever, size: str, seed: int):
        """The process that makes a cohort, begun where none has."""
        key = (json.dumps(lever.dials), seed)
        if key not in self.cohorts:
            words = ["--cohort", name, str(seed), "--budget", size]
            self.cohorts[key] = self.makers.submit(self.alone, words)
        return self.cohorts[key]

    def training(self, name: str, seed: int, size: str):
        lever = (LEVERS | CANDIDATES)[name]
        make = partial(self.cohort, name, lever, size)
        films = [make(number) for number in BUDGETS[size].cohorts]
        words = ["--run", name, str(seed), "--budget", size]
        return self.trainers.submit(self.after, films, words)

    def after(self, films, words):
        wait(films)
        if not (self.out / f"{words[1]}-{words[2]}.tune.json").exists():
            self.alone(words)

    def alone(self, words: list[str]) -> None:
        """This file with other words, in a process of its own; its output in a file."""
        command = [sys.executable, __file__, *words, "--out", str(self.out)]
        log = self.out / f"{'-'.join(words[:3]).strip('-')}.log"
        begun = time.monotonic() - self.began
        with log.open("w") as file:
            code = subprocess.run(command, stdout=file, stderr=file).returncode
        ended = time.monotonic() - self.began
        print(f"{begun:4.0f} to {ended:4.0f} s", *words, f"exit {code}", flush=True)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("levers", nargs="*", help=", ".join(LEVERS))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--continued", action="store_true")
    parser.add_argument("--release", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "levers")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time")
    parser.add_argument("--budget", default="full", choices=BUDGETS)
    parser.add_argument("--cohort", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    budget = BUDGETS[given.budget]
    if given.cohort:
        name, seed = given.cohort
        if name == "unseen":
            unseen(budget)
            return
        cohort_of((LEVERS | CANDIDATES)[name], budget, int(seed))
        return
    if given.run:
        name, seed = given.run
        return run(name, int(seed), budget, given.out)
    size = "small" if given.small else "continued" if given.continued else "full"
    levers = given.levers or list(LEVERS)
    given.out.mkdir(parents=True, exist_ok=True)
    schedule = Schedule(given.out, given.workers)
    schedule.makers.submit(schedule.alone, ["--cohort", "unseen", "7"])
    runs = [(name, seed, size) for seed in SEEDS for name in levers]
    if given.release:
        release = "small" if given.small else "release"
        runs[2:2] = [(name, 0, release) for name in CANDIDATES]
    wait([schedule.training(*each) for each in runs])


if __name__ == "__main__":
    main(sys.argv[1:])
