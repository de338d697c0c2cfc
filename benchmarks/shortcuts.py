"""What issue 18 asks of shortcuts: worlds, edits, and which detector names which head.

python benchmarks/shortcuts.py [--n 1600] [--limits 0] [--cohort 12]

The detectors' limits are fixed on clean heads of one cohort, and tried on another, of
other patients.
"""

import argparse

import pandas as pd

import radwb as rw
from radwb.fail import worlds

FINDING = "Lung Lesion"


def films_of(n, seed, model):
    return rw.fail.FrozenFilms(rw.simulate.cohort(n=n, seed=seed), model)


def show_detectors(limits_on, films, strength, seeds):
    clean = rw.fail.blind_signs(limits_on, FINDING, strength=None, seeds=range(10))
    limits = rw.fail.blind_limits(clean)
    print("limits", {name: round(limit, 3) for name, limit in limits.items()})
    verdicts = {}
    for name, tie in (("clean", None), ("untied", 0.5), ("tied", strength)):
        signs = rw.fail.blind_signs(films, FINDING, strength=tie, seeds=range(seeds))
        verdicts[name] = rw.fail.name_shortcuts(signs, limits)
        print(name, signs.round(3).to_string(), sep="\n")
    for name, verdict in verdicts.items():
        print(name, verdict.groupby("detector", sort=False)["named"].sum().to_dict())
    for row in rw.fail.blind_evidence(verdicts["tied"], verdicts["clean"], FINDING):
        print(row.verdict, row.sentence)


def show_worlds(films, seeds):
    view = {"column": "view", "groups": ("AP", "PA")}
    made = [
        worlds.unequal_groups(films, FINDING, seeds=seeds),
        worlds.unequal_groups(films, FINDING, seeds=seeds, **view),
        worlds.travelling_mark(films, FINDING, seeds=seeds),
        worlds.hidden_drain(films, FINDING, seeds=seeds),
        worlds.hidden_drain(films, "Pneumothorax", seeds=seeds),
        worlds.hidden_drain(films, "Pneumothorax", shares=None, seeds=seeds),
    ]
    for world in made:
        print(world.tried)
        print(rw.fail.over_seeds(world.table, by=("dial", "arm")).round(3).to_string())
        for key, comparison in world.comparisons().items():
            print("  ", key[0], str(comparison))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1600)
    parser.add_argument("--limits", type=int, default=0)
    parser.add_argument("--cohort", type=int, default=12)
    parser.add_argument("--strength", type=float, default=0.95)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    pd.set_option("display.width", 200)
    model = rw.models.load("radwb-tiny")
    limits_on = films_of(asked.n, asked.limits, model)
    films = films_of(asked.n, asked.cohort, model)
    show_detectors(limits_on, films, asked.strength, asked.seeds)
    show_worlds(films, asked.seeds)


if __name__ == "__main__":
    main()
