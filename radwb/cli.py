"""The command `radwb`: the same verbs as the package. Importing it loads no room; each
command loads what it uses.
"""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

CORE = ("00", "01", "02", "03", "04", "05")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 = done, 1 = failed (one line says why), 2 = not understood,
    130 = interrupted.
    """
    options = parser().parse_args(arguments)
    options.stdout = sys.stdout
    # the result alone goes to standard output as JSON, what is said on the way doesn't
    aside = (
        redirect_stdout(sys.stderr)
        if getattr(options, "json", False)
        else nullcontext()
    )
    try:
        with aside:
            return options.call(options) or 0
    except KeyboardInterrupt:
        print("radwb: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if options.debug:
            raise
        text = " ".join(str(error).split()) or "no message"
        print(
            f"radwb {options.command}: {type(error).__name__}: {text} (--debug shows where)",
            file=sys.stderr,
        )
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="radwb",
        description="A workbench for radiology foundation models. Not for clinical use.",
    )
    top.add_argument(
        "--version", action="version", version=f"radwb {installed_version()}"
    )
    verbs = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def verb(name, call, text, *, prints=False):
        command = verbs.add_parser(name, help=text, description=text)
        command.add_argument(
            "--debug", action="store_true", help="show the whole traceback of an error"
        )
        if prints:
            command.add_argument(
                "--json", action="store_true", help="print the result as JSON"
            )
        command.set_defaults(call=call)
        return command

    add = verb(
        "tour", tour, "run the core notebooks and make the gallery", prints=True
    ).add_argument
    add(
        "--fast",
        action="store_true",
        help="small numbers: a check of the machine, not of the results",
    )
    add("--out", type=Path, help="where to write (default: build/ in the checkout)")

    add = verb(
        "lab",
        lab,
        "open JupyterLab on this machine at notebook 00; saved notebooks hold pixels",
    ).add_argument
    add(
        "--port",
        type=int,
        default=8888,
        help="the next free one is taken when it is busy (default 8888)",
    )
    add(
        "--no-browser",
        action="store_true",
        help="print the address instead of opening it",
    )

    actions = verb(
        "book",
        book,
        "notebooks: make them from their sources, run them, make the pages anew",
    )
    actions = actions.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "sync", help="make notebooks/*.ipynb equal to notebooks/src/*.py"
    ).add_argument
    add(
        "--check",
        action="store_true",
        help="change nothing, fail when a notebook is out of step",
    )
    add("--json", action="store_true", help="print the notebooks as JSON")
    add = actions.add_parser(
        "run", help="execute notebooks and write the gallery"
    ).add_argument
    add("names", nargs="*", metavar="NAME", help="such as 03 (default: all)")
    add(
        "--fast",
        action="store_true",
        help="small numbers: a check of the machine, not of the results",
    )
    add("--out", type=Path, help="where to write (default: build/ in the checkout)")
    add("--json", action="store_true", help="print tour.json")
    add = actions.add_parser(
        "gallery", help="make the pages of what was executed anew"
    ).add_argument
    add("--out", type=Path, help="where build/ is (default: in the checkout)")

    add = verb(
        "fetch", fetch, "get data sets, verified, into the cache", prints=True
    ).add_argument
    add("names", nargs="*", metavar="NAME")
    add(
        "--list",
        action="store_true",
        help="what there is, from where, under which licence",
    )
    add("--offline", action="store_true", help="cache and local mirror only")

    add = verb(
        "simulate", simulate, "make a cohort of virtual patients", prints=True
    ).add_argument
    add("-n", type=int, default=2000, help="radiographs (default 2000)")
    add("--seed", type=int, default=0)
    add("--size", type=int, default=160, help="side, px (default 160)")
    add("--out", type=Path, help="write the table to this CSV")
    add(
        "--dicom",
        type=Path,
        metavar="FOLDER",
        help="write the films as DICOM (DX), too",
    )
    add(
        "--identifiers",
        action="store_true",
        help="with --dicom: invented people in the files, and key.csv",
    )
    add("--shards", type=Path, metavar="FOLDER", help="write webdataset shards, too")

    add = verb(
        "curate",
        curate,
        "turn a folder of files into a table; no file stops it",
        prints=True,
    ).add_argument
    add("folder", type=Path)
    add("--out", type=Path, help="write the table to this CSV")
    add(
        "--split", action="store_true", help="add train, val and test, apart by patient"
    )
    add(
        "--one-patient-per-image",
        action="store_true",
        help="a file without a patient is another patient's each",
    )
    add("--seed", type=int, default=0, help="of the split")

    add = verb(
        "pretrain", pretrain, "train a model on a table or on shards", prints=True
    ).add_argument
    add(
        "table",
        type=Path,
        help="CSV as `radwb simulate --out` or `curate --out` writes it, or a folder of shards",
    )
    add("--out", type=Path, help="folder of the run")
    add(
        "--recipe",
        default="clip-tiny",
        metavar="NAME",
        help="clip-tiny, supervised-tiny, ... (default clip-tiny)",
    )
    add("--epochs", type=int, default=10)
    add(
        "--batch",
        type=int,
        default=64,
        help="images a step, over all devices (default 64)",
    )
    add("--lr", type=float, default=3e-4)
    add("--seed", type=int, default=0)
    add("--size", type=int, help="side of the input, px (default 128)")
    add("--devices", type=int, default=1)
    add("--num-nodes", type=int, default=1)
    add(
        "--accumulate",
        type=int,
        default=1,
        metavar="PARTS",
        help="pass a step's images in parts (mean losses)",
    )
    add(
        "--chunk",
        type=int,
        metavar="IMAGES",
        help="pass so many images at a time (losses over the batch)",
    )
    add(
        "--ema",
        type=float,
        metavar="DECAY",
        help="keep a moving average of the weights, e.g. 0.999",
    )
    add("--start", help="a model to go on from")
    add(
        "--export-open-clip",
        type=Path,
        metavar="FOLDER",
        help="train nothing, write what open_clip_train needs",
    )

    add = verb(
        "probe", probe, "zero-shot AUROC with intervals by patient", prints=True
    ).add_argument
    add("model", help="a run's folder, open_clip:..., timm:..., xrv:...")
    add("table", type=Path, help="CSV")
    add("--findings", nargs="+", metavar="NAME", help="default: all label columns")
    add("--split", default="test", help="rows to use; 'all' for all (default test)")
    add(
        "--pool",
        choices=("pair", "any"),
        default="pair",
        help="phrases for against those against, or any way to report it",
    )

    add = verb("attend", attend, "lay a map over a scan", prints=True).add_argument
    add("model", help="as in probe")
    add("image", type=Path, help="DICOM, PNG or JPEG")
    add(
        "--target",
        required=True,
        help="a text such as 'right pleural effusion', or a finding of a classifier",
    )
    add(
        "--method",
        default="relevance",
        help="attention, rollout, relevance or gradcam (default relevance)",
    )
    add(
        "--out",
        type=Path,
        default=Path("attention.html"),
        help="the figure (default attention.html)",
    )

    add = verb(
        "fail",
        fail,
        "tie a marker to a finding in training, then break the tie",
        prints=True,
    ).add_argument
    add("model", help="linear heads are trained on its frozen patches; as in probe")
    add("table", type=Path, help="CSV with split train and test")
    add("--finding", default="Pneumothorax")
    add(
        "--strengths",
        nargs="+",
        type=float,
        default=(0.5, 1.0),
        help="of the tie: 0.5 none, 1 always (default 0.5 1)",
    )
    add("--seeds", type=int, default=5, help="trainings a strength (default 5)")
    return top


def installed_version() -> str:
    from importlib.metadata import version

    return version("radwb")


def show(options, value) -> None:
    """Print a table or a dict, as JSON when asked."""
    if hasattr(value, "to_dict"):
        text = (
            value.to_json(orient="records", indent=1)
            if options.json
            else value.to_string(index=False)
        )
    elif options.json:
        text = json.dumps(value, indent=1)
    else:
        text = "\n".join(f"{key}: {item}" for key, item in value.items())
    print(text, file=options.stdout)


def read_table(path: Path, split: str = "all"):
    from radwb import data

    return data.read_table(path, split=None if split == "all" else split)


def tour(options) -> int:
    from radwb.book.sync import checkout, sources

    root = checkout()
    return run_book(options, root, [s for s in sources(root) if s.stem[:2] in CORE])


def run_book(options, root: Path, chosen: list[Path]) -> int:
    from radwb.book.run import run

    out = options.out or root / "build"
    results = run(chosen, out, fast=options.fast)
    index = out / "gallery" / "index.html"
    if options.json:
        print((out / "tour.json").read_text(encoding="utf-8"), file=options.stdout)
    else:
        print(f"\n{sum(r.minutes for r in results):.1f} minutes; open {index}")
    stopped = [r for r in results if r.error]
    if stopped:
        print(
            f"radwb {options.command}: {stopped[0].name} stopped in {stopped[0].error}",
            file=sys.stderr,
        )
    return 1 if stopped else 0


def book(options) -> int:
    from radwb.book.sync import checkout, sources, sync

    root = checkout()
    if options.action == "run":
        return run_book(options, root, sources(root, options.names))
    if options.action == "gallery":
        from radwb.book.run import gallery

        print(gallery(options.out or root / "build"))
        return 0
    changed = [
        str(path.relative_to(root)) for path in sync(root, write=not options.check)
    ]
    if options.json:
        print(json.dumps(changed), file=options.stdout)
    elif changed:
        print(("out of step: " if options.check else "written: ") + ", ".join(changed))
    return 1 if options.check and changed else 0


def lab(options) -> int:
    from radwb.book.lab import open_lab

    return open_lab(port=options.port, browser=not options.no_browser)


def fetch(options) -> None:
    from radwb import data

    if options.list or not options.names:
        show(
            options,
            data.catalog()
            if options.json
            else data.catalog()[["name", "here", "size_mb", "licence", "what"]],
        )
        return
    show(
        options,
        {
            name: str(data.fetch(name, offline=options.offline or None))
            for name in options.names
        },
    )


def simulate(options) -> None:
    from radwb import data
    from radwb import simulate as room
    from radwb.simulate.identifiers import write_dicom

    if options.identifiers and not options.dicom:
        raise ValueError(
            "expected --dicom FOLDER beside --identifiers, got none. They are planted in DICOM files"
        )
    table = room.cohort(n=options.n, seed=options.seed, size=options.size)
    if options.shards:
        data.write_shards(table, options.shards)
    if options.identifiers:
        table, key = room.plant_identifiers(table, options.dicom, seed=options.seed)
        write(key, options.dicom / "key.csv")
    elif options.dicom:
        table = write_dicom(table, options.dicom, seed=options.seed)
    write(table, options.out)
    counts = {f: int((table[f] == 1).sum()) for f in data.findings_of(table)}
    show(
        options,
        {
            "images": len(table),
            "patients": int(table["patient_id"].nunique()),
            **counts,
        },
    )


def write(table, out: Path | None) -> None:
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.map(no_formula).to_csv(out, index=False)


def no_formula(value):
    """A text that a spreadsheet would run, such as "=cmd|...", with an apostrophe
    before it; others as they are.
    """
    if not isinstance(value, str) or not value.startswith(
        ("=", "@", "+", "-", "\t", "\r")
    ):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def curate(options) -> None:
    from radwb import curate as room

    table = room.index(options.folder)
    files, refused = len(table), table[table["refused"] != ""]
    if options.split or options.one_patient_per_image:
        table = table[table["refused"] == ""].reset_index(drop=True)
    if options.one_patient_per_image:
        table = room.one_patient_per_image(table)
    if options.split:
        table = room.split_by_patient(table, seed=options.seed)
    write(table, options.out)
    show(options, {"files": files, "refused": len(refused)})
    if not options.json:
        print(
            "".join(f"  {row.path}: {row.refused}\n" for row in refused.itertuples()),
            end="",
        )


def pretrain(options) -> None:
    from radwb import pretrain as room

    settings = {k: getattr(options, k) for k in ("epochs", "batch", "lr", "size")}
    if options.export_open_clip:
        from radwb.pretrain.export import export_open_clip

        out = export_open_clip(
            read_table(options.table), options.export_open_clip, **settings
        )
        show(options, {"written": str(out), "run": f"sh {out / 'train.sh'}"})
        return
    if not options.out:
        raise ValueError("expected --out FOLDER for the run, got none")
    more = (
        "recipe",
        "seed",
        "devices",
        "num_nodes",
        "accumulate",
        "chunk",
        "ema",
        "start",
    )
    settings |= {k: getattr(options, k) for k in more}
    of = (
        {"shards": options.table}
        if options.table.is_dir()
        else {"table": read_table(options.table)}
    )
    run = room.fit(out=options.out, **of, **settings)
    last = run.log.ffill().iloc[-1]
    show(
        options,
        {"out": str(options.out), **{k: float(v) for k, v in last.items() if v == v}},
    )


def probe(options) -> None:
    import pandas as pd

    from radwb import models
    from radwb import probe as room

    table = read_table(options.table, options.split)
    model = models.load(options.model)
    if model.kind == "image":
        scores = room.classify(model, table)
    else:
        scores = room.zero_shot(model, table, options.findings, pool=options.pool)
    show(options, pd.concat([scores.auroc(), scores.mean_auroc()]).round(3))


def attend(options) -> None:
    from radwb import attend as room
    from radwb import data, models
    from radwb import show as figures

    scan = data.read(options.image)
    m = room.attention_map(
        models.load(options.model), scan, method=options.method, target=options.target
    )
    figures.overlay(scan, m).write_html(options.out, include_plotlyjs=True)
    row, column = (int(i) for i in divmod(int(m.values.argmax()), m.values.shape[1]))
    show(
        options,
        {
            "written": str(options.out),
            "highest at row": row,
            "highest at column": column,
        },
    )


def fail(options) -> None:
    from radwb import fail as room
    from radwb import models

    settings = {
        "finding": options.finding,
        "strengths": tuple(options.strengths),
        "seeds": options.seeds,
    }
    result = room.shortcut(
        read_table(options.table), start=models.load(options.model), **settings
    )
    show(options, result.table.round(3))
