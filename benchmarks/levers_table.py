"""What each lever changed, of the runs that `levers.py` left: a table to ship.

python benchmarks/levers_table.py [FOLDER] [--out FILE.csv]

A row a run and number: lever, seed, number, value, base (the same number of the base
with the same seed), change; the number's name is one of `real_films.HEADLINE`, of the
tuning half, or "virtual, pair" and "virtual, any". Notebook 03 draws it. Seeds are the
replicates: a lever is said to be ahead where it is with every one of them.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from levers import LEVERS

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "radwb" / "models" / "weights" / "radwb-tiny" / "levers.csv"
BASE = "base"
SEVERAL = ("no real film", "together")  # levers at a time, so shown last


def numbers_of(folder: Path) -> pd.DataFrame:
    """One row a run and number, of the tuning half."""
    rows = []
    for path in sorted(folder.glob("*.tune.json")):
        found = json.loads(path.read_text())
        virtual = {f"virtual, {way}": v for way, v in found["virtual"].items()}
        for number, value in (found["headline"] | virtual).items():
            about = {key: found[key] for key in ("lever", "seed", "films", "seconds")}
            rows.append(about | {"number": number, "value": value})
    if not rows:
        raise SystemExit(f"expected NAME-SEED.tune.json in {folder}, got none")
    return pd.DataFrame(rows)


def against_base(numbers: pd.DataFrame) -> pd.DataFrame:
    """Each lever's numbers beside those of the base with the same seed."""
    key = ["seed", "number"]
    base = numbers[numbers["lever"] == BASE].set_index(key)["value"].rename("base")
    table = numbers.join(base, on=key)
    table = table.assign(change=table["value"] - table["base"])
    singles = [name for name in LEVERS if name not in SEVERAL]
    place = {name: n for n, name in enumerate([*singles, *SEVERAL])}
    order = table["lever"].map(place).argsort(kind="stable")
    return table.iloc[order]


def verdict(changes: pd.Series) -> str:
    """What all seeds say of a lever's change."""
    if len(changes) < 2:
        return "one seed"
    if (changes > 0).all():
        return f"ahead in all {len(changes)}"
    if (changes < 0).all():
        return f"behind in all {len(changes)}"
    return "can't tell"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build/levers")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    given = parser.parse_args()
    table = against_base(numbers_of(given.folder))
    table.to_csv(given.out, index=False, float_format="%.4f")
    for number, part in table.groupby("number", sort=False):
        print(f"\n{number}")
        for lever, runs in part.groupby("lever", sort=False):
            each = ", ".join(f"{change:+.3f}" for change in runs["change"])
            mean = runs["value"].mean()
            said = verdict(runs["change"])
            print(f"  {lever:20} {mean:.3f}  change {each}  {said}")


if __name__ == "__main__":
    main()
