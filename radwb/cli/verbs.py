"""What each verb does: read its options, call a room, print the result."""

import json
import sys
from pathlib import Path

CORE = ("00", "01", "02", "03", "04", "05")
SCALE = ("epochs", "batch", "lr", "size")
TRAINING = ("recipe", "seed", "devices", "num_nodes", "accumulate", "chunk", "ema")


def chosen(options, *names: str) -> dict:
    """The options that were given; the function's own defaults stand for the others."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def show(options, value) -> None:
    """Print a table or a dict, as JSON when asked."""
    table = hasattr(value, "to_dict")
    if table and options.json:
        text = value.to_json(orient="records", indent=1)
    elif table:
        text = value.to_string(index=False)
    elif options.json:
        text = json.dumps(value, indent=1)
    else:
        text = "\n".join(f"{key}: {item}" for key, item in value.items())
    print(text, file=options.stdout)


def read_table(path: Path, split: str = "all"):
    """A CSV as `write` leaves it, or the rows of one split."""
    from radwb import data

    return data.read_table(path, split=None if split == "all" else split)


def tour(options) -> int:
    """Run the core notebooks; the API reference stands beside their pages."""
    from radwb.book.reference import reference
    from radwb.book.sync import checkout, sources

    root = checkout()
    reference((options.out or root / "build") / "gallery" / "api")
    core = [source for source in sources(root) if source.stem[:2] in CORE]
    return run_book(options, root, core)


def run_book(options, root: Path, chosen: list[Path]) -> int:
    """Run notebooks, write the gallery, and say where it is or what stopped."""
    from radwb.book.run import run

    out = options.out or root / "build"
    results = run(chosen, out, fast=options.fast)
    index = out / "gallery" / "index.html"
    if options.json:
        print((out / "tour.json").read_text(encoding="utf-8"), file=options.stdout)
    else:
        minutes = sum(result.minutes for result in results)
        print(f"\n{minutes:.1f} minutes; open {index}")
    stopped = [result for result in results if result.error]
    if not stopped:
        return 0
    where = f"{stopped[0].name} stopped in {stopped[0].error}"
    print(f"radwb {options.command}: {where}", file=sys.stderr)
    return 1


def book(options) -> int:
    """Sync or run notebooks, or make their pages."""
    from radwb.book.sync import checkout, sources, sync

    root = checkout()
    if options.action == "run":
        return run_book(options, root, sources(root, options.names))
    if options.action == "gallery":
        from radwb.book.run import gallery

        print(gallery(options.out or root / "build"))
        return 0
    if options.action == "reference":
        from radwb.book.reference import reference

        out = options.out or root / "build"
        print(reference(out / "gallery" / "api"))
        return 0
    paths = sync(root, write=not options.check)
    changed = [str(path.relative_to(root)) for path in paths]
    if options.json:
        print(json.dumps(changed), file=options.stdout)
    elif changed:
        state = "out of step" if options.check else "written"
        print(f"{state}: {', '.join(changed)}")
    return 1 if options.check and changed else 0


def lab(options) -> int:
    """Open JupyterLab."""
    from radwb.book.lab import open_lab

    return open_lab(**chosen(options, "port"), browser=not options.no_browser)


def fetch(options) -> None:
    """List data sets, or get them."""
    from radwb import data

    if options.list or not options.names:
        catalog = data.catalog()
        if not options.json:
            catalog = catalog[["name", "here", "size_mb", "licence", "what"]]
        show(options, catalog)
        return
    folders = {}
    for name in options.names:
        folders[name] = str(data.fetch(name, offline=options.offline or None))
    show(options, folders)


def models(options) -> None:
    """List the networks that `load` can get."""
    from radwb.models import published

    table = published()
    if not options.json:
        table = table[["name", "here", "size_mb", "licence", "asked", "what"]]
    show(options, table)


def simulate(options) -> None:
    """Simulate a cohort and write it as asked."""
    from radwb import data
    from radwb import simulate as room
    from radwb.simulate.identifiers import write_dicom

    if options.identifiers and not options.dicom:
        raise ValueError(
            "expected --dicom FOLDER beside --identifiers, got none. "
            "They are planted in DICOM files"
        )
    table = room.cohort(**chosen(options, "n", "seed", "size"))
    seed = chosen(options, "seed")
    if options.shards:
        data.write_shards(table, options.shards)
    if options.identifiers:
        table, key = room.plant_identifiers(table, options.dicom, **seed)
        write(key, options.dicom / "key.csv")
    elif options.dicom:
        table = write_dicom(table, options.dicom, **seed)
    write(table, options.out)
    counts = {"images": len(table), "patients": int(table["patient_id"].nunique())}
    for finding in data.findings_of(table):
        counts[finding] = int((table[finding] == 1).sum())
    show(options, counts)


def write(table, out: Path | None) -> None:
    """Write a table as a CSV that no spreadsheet runs, where a file was asked for."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.map(no_formula).to_csv(out, index=False)


def no_formula(value):
    """A text that a spreadsheet would run, with an apostrophe before it.

    >>> no_formula("=1+1"), no_formula("-3.5"), no_formula("normal")
    ("'=1+1", '-3.5', 'normal')
    """
    risky = ("=", "@", "+", "-", "\t", "\r")
    if not isinstance(value, str) or not value.startswith(risky):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def curate(options) -> None:
    """Index a folder and write its table."""
    from radwb import curate as room

    table = room.index(options.folder)
    counts = {"files": len(table)}
    refused = table[table["refused"] != ""]
    if options.split or options.one_patient_per_image:
        table = table[table["refused"] == ""].reset_index(drop=True)
    if options.one_patient_per_image:
        table = room.one_patient_per_image(table)
    if options.split:
        table = room.split_by_patient(table, **chosen(options, "seed"))
    write(table, options.out)
    show(options, counts | {"refused": len(refused)})
    if not options.json:
        for row in refused.itertuples():
            print(f"  {row.path}: {row.refused}")


def pretrain(options) -> None:
    """Train a model, or export what open_clip trains it with."""
    from radwb import pretrain as room

    settings = chosen(options, *SCALE)
    if options.export_open_clip:
        from radwb.pretrain.export import export_open_clip

        table = read_table(options.table)
        out = export_open_clip(table, options.export_open_clip, **settings)
        show(options, {"written": str(out), "run": f"sh {out / 'train.sh'}"})
        return
    if not options.out:
        raise ValueError("expected --out FOLDER for the run, got none")
    settings |= chosen(options, *TRAINING, "start")
    if options.table.is_dir():
        settings["shards"] = options.table
    else:
        settings["table"] = read_table(options.table)
    run = room.fit(out=options.out, **settings)
    last = run.log.ffill().iloc[-1].dropna()
    numbers = {name: float(value) for name, value in last.items()}
    show(options, {"out": str(options.out), **numbers})


def probe(options) -> None:
    """AUROCs by words, or by the model's own head."""
    import pandas as pd

    from radwb import models
    from radwb import probe as room

    table = read_table(options.table, options.split)
    model = models.load(options.model)
    if model.kind == "image":
        scores = room.classify(model, table)
    else:
        pool = chosen(options, "pool")
        scores = room.zero_shot(model, table, options.findings, **pool)
    show(options, pd.concat([scores.auroc(), scores.mean_auroc()]).round(3))


def attend(options) -> None:
    """Write a map over a scan, and say where it is highest."""
    from radwb import attend as room
    from radwb import data, models
    from radwb import show as figures

    scan = data.read(options.image)
    settings = chosen(options, "method", "target")
    heat = room.attention_map(models.load(options.model), scan, **settings)
    figures.overlay(scan, heat).write_html(options.out, include_plotlyjs=True)
    row, column = divmod(int(heat.values.argmax()), heat.values.shape[1])
    place = {"highest at row": row, "highest at column": column}
    show(options, {"written": str(options.out), **place})


def fail(options) -> None:
    """Tie a marker to a finding, and print AUROCs with the tie and without."""
    from radwb import fail as room
    from radwb import models

    table = read_table(options.table)
    start = models.load(options.model)
    settings = chosen(options, "finding", "strengths", "seeds")
    result = room.shortcut(table, start=start, **settings)
    show(options, result.table.round(3))


def card(options) -> None:
    """Write a model's evidence card, and say what was found."""
    from radwb import card as room
    from radwb import models
    from radwb import simulate as films

    virtual = options.table is None
    table = films.cohort(n=600, seed=7) if virtual else read_table(options.table)
    settings = chosen(options, "data_card", "seed")
    made = room.evidence_card(models.load(options.model), table, **settings)
    path = made.save(options.out)
    if options.json:
        show(options, json.loads(made.to_json()))
        return
    show(options, {"written": str(path), "summary": made.summary})
