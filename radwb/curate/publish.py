"""`publish` and `verify`: shards with a manifest, and the same read back."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from radwb.curate.audit import Audit
from radwb.curate.card import CROISSANT, PAGE, check_card, write_card
from radwb.curate.flow import Flow
from radwb.curate.split import PARTS, check_split, need_patients
from radwb.data.checksum import sha256
from radwb.data.shards import read_shards, running_keys, write_shards
from radwb.data.table import check_table, film_keys, findings_of
from radwb.identifiers import identifiers

# of the schema: nothing that leads back to an original, such as path or source
SHARED = ("patient_id", "study_id", "view", "site", "sex", "age_years", "split")
GROUPS = ("view", "site", "sex")
# what a shard's sample has anyway, and what leads back
TAKEN = ("key", "shard", "position", "pixels", "report", "path", "truth_path", "source")
# what rw.curate.deidentify changes
CLEANED = ("patient_id", "study_id", "site", "report", "age_years")
MANIFEST = "manifest.json"
TABLE = "table.json"
FEW = 20  # patients of a part who have a finding: less is too few to test on


def publish(
    table: pd.DataFrame,
    out: str | os.PathLike,
    *,
    title: str,
    licence: str,
    source: str,
    flow: Flow | None = None,
    audit: Audit | None = None,
    deidentified: pd.DataFrame | None = None,
    by: str = "patient",
    seed: int | None = None,
    columns: Sequence[str] = (),
    per_shard: int = 1000,
) -> dict:
    """Write what goes out: shards, a manifest of how they came about, and a data card.

    `out` then holds shard-*.tar for `rw.pretrain.fit(shards=out)`, table.json (a row a
    film), manifest.json (checksums, licence, source, flow, counts, audit, limits),
    card.html (one page that needs no network) and croissant.json. All of it is made
    from the run, is read back (`verify`), and is the same to the byte the next time.
    Films are written anew under running numbers: no file's name or text goes along.
    What the table says of them does, so give `deidentified` where it names people.

    >>> way = Flow("virtual films", table)
    >>> about = dict(title="Virtual chests", licence="CC BY 4.0", source="simulator")
    >>> manifest = publish(table, "published", flow=way, **about)
    >>> len(verify("published")) == len(table)
    True

    Args:
        table: needs path, patient_id and split.
        out: an empty folder, or one that is to be made.
        title, licence, source: of the cohort; the source says where its films are from.
        flow: whose last step this table is.
        audit: what `rw.curate.audit` says of this table.
        deidentified: what `rw.curate.deidentify` returned; each film must be in it,
            with the patient, study, site, report and age that it has there.
        by: what the split is by: patient, site or time, which is checked; for time
            columns=["study_date"], since without days nobody can check it again.
        seed: of the split.
        columns: further columns to go out; of others only those of the schema do.
        per_shard: films of a shard.
    Returns:
        the manifest.
    Raises:
        ValueError: something is missing, doesn't fit together, or a patient is in two
            parts.
    """
    out = Path(out).resolve()
    _check_words(title=title, licence=licence, source=source)
    _check_columns(table, columns, by)
    table = check_split(check_table(table), by).reset_index(drop=True)
    table = table.assign(patient_id=need_patients(table))
    _check_together(table, flow, deidentified)
    if out.is_file() or (out.exists() and any(out.iterdir())):
        raise ValueError(f"expected an empty folder, got {out} with files in it")
    kept = [c for c in (*SHARED, *findings_of(table), *columns) if c in table.columns]
    manifest = {
        "title": title,
        "licence": licence,
        "source": source,
        "radwb": version("radwb"),
        "split": {"by": by, "seed": seed},
        "columns": list(dict.fromkeys(kept)),
        "films": len(table),
        "patients": int(table["patient_id"].nunique()),
        "reports": int(_reports(table).sum()),
        "counts": _counts(table),
        "flow": None if flow is None else flow.to_dict(),
        "audit": None if audit is None else _audited(audit),
        "deidentified": None if deidentified is None else _done(deidentified),
    }
    manifest["limits"] = _limits(manifest, table)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        _write(table, part, manifest, per_shard)
        if out.exists():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _write(table, out, manifest, per_shard):
    """All files; the manifest gets their checksums, is written last, and verified."""
    kept = manifest["columns"]
    shards = write_shards(table, out, per_shard=per_shard, columns=kept, anew=True)
    rows = _listed(table, kept, shards, per_shard)
    (out / TABLE).write_text(_lines(rows))
    listed = [*shards, out / "shards.json", out / TABLE]
    manifest["files"] = [_file(path) for path in listed]
    # the page names the files above, so it can't stand among them
    manifest["cards"] = [_file(path) for path in write_card(out, manifest)]
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    verify(out)


def verify(folder: str | os.PathLike) -> pd.DataFrame:
    """Read back what `publish` wrote, as whoever gets it should do first.

    Checksums, each film of each shard against table.json, counts, patients in two
    parts, and the Croissant card, where mlcroissant is there to validate it.

    Args:
        folder: as `publish` wrote it.
    Returns:
        table.json: one row a film, with the shard that holds it.
    Raises:
        ValueError: the first thing that doesn't fit.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    files = {file["name"]: file["sha256"] for file in _all_files(manifest)}
    needed = {TABLE, "shards.json", PAGE}
    needed |= {path.name for path in folder.glob("*.tar")}
    needed |= {CROISSANT} & {path.name for path in folder.iterdir()}
    unlisted = sorted(needed - set(files))
    if unlisted:
        raise ValueError(
            f"{MANIFEST}: expected {unlisted[0]} among the files, got none"
        )
    for name, expected in files.items():
        _check_file(folder, name, expected)
    rows = _rows(folder)
    table = pd.DataFrame(rows)
    shards = sorted(name for name in files if name.endswith(".tar"))
    _compare(read_shards([folder / name for name in shards]), rows)
    check_split(table, manifest["split"]["by"])
    if manifest["counts"] != _counts(table):
        raise ValueError(f"{MANIFEST}: expected the counts of {TABLE}, got others")
    check_card(folder, manifest)
    return table


def _manifest(folder):
    """What `verify` needs of it, in the form that `publish` gives it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["title"], manifest["counts"], manifest["split"]["by"]
        for file in _all_files(manifest):
            Path(file["name"]), bytes.fromhex(file["sha256"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"expected {MANIFEST} as rw.curate.publish writes it in {folder}, got "
            f"{type(error).__name__}: {error}"
        ) from error
    return manifest


def _all_files(manifest):
    return [*manifest["files"], *manifest["cards"]]


def _check_file(folder, name, expected):
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise ValueError(f"expected {name} in {folder}, got no such file")
    got = sha256(path)
    if got != expected:
        raise ValueError(
            f"{name}: expected the SHA-256 {expected[:12]}..., got {got[:12]}.... Try "
            "to copy it again"
        )


def _rows(folder):
    rows = json.loads((folder / TABLE).read_text())
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{TABLE}: expected a list of rows, got something else")
    return rows


def _compare(samples, rows):
    """Each sample of the shards against its row, in order."""
    n = 0
    for n, sample in enumerate(samples, 1):
        row = rows[n - 1] if n <= len(rows) else {}
        shard, _ = sample["position"]
        got = sample | {"shard": shard}
        unlike = [column for column in row if got.get(column) != row[column]]
        if unlike or not row:
            raise ValueError(
                f"{shard}: expected sample {sample['key']} as row {n - 1} of {TABLE} "
                f"has it, got another {', '.join(unlike) or 'number of films'}"
            )
    if n != len(rows):
        raise ValueError(f"expected {len(rows)} films in the shards, got {n}")


def _check_words(**words):
    for name, text in words.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected a {name} in words, got {text!r}")


def _check_columns(table, columns, by):
    """Refuse a further column that isn't there, or that a sample has by itself."""
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise ValueError(f"expected the columns {missing}, got {list(table.columns)}")
    taken = [c for c in columns if c in TAKEN]
    if taken:
        raise ValueError(
            f"expected further columns, got {taken}: a sample has them by itself, or "
            "they lead to a file. Try without them"
        )
    if by == "time" and "study_date" not in columns:
        raise ValueError(
            "expected days to go out with a split by time, got no study_date in "
            'columns. Try columns=["study_date"]'
        )


def _check_together(table, flow, deidentified):
    if flow is not None and flow.steps["films"].iloc[-1] != len(table):
        raise ValueError(
            f"expected the flow to end with {len(table)} films, got "
            f"{flow.steps['films'].iloc[-1]}. Try table = flow.keep(name, table, why=)"
        )
    if deidentified is not None:
        _check_cleaned(table, deidentified)


def _check_cleaned(table, deidentified):
    """Clean films aren't enough: the rows must be those of the copies as well."""
    written = deidentified.dropna(subset="path")
    place = {key: n for n, key in enumerate(film_keys(written["path"]))}
    places = [place.get(key) for key in film_keys(table["path"])]
    others = places.count(None)
    if others:
        raise ValueError(
            f"expected films that rw.curate.deidentify wrote, got {others} of "
            f"{len(table)} others"
        )
    written = written.iloc[places]
    for column in CLEANED:
        own, clean = _spelt(table, column), _spelt(written, column)
        # what a row leaves out can't name anybody
        unlike = [n for n, value in enumerate(own) if value not in (None, clean[n])]
        if unlike:
            raise ValueError(
                f"expected {column} as rw.curate.deidentify returned it, got another "
                f"in {len(unlike)} of {len(table)} rows, such as row {unlike[0]}. Try "
                "to go on with the table that it returned"
            )


def _spelt(table, column):
    return identifiers(table.get(column, [None] * len(table)))


def _listed(table, kept, shards, per_shard):
    """A dictionary a film, as its sample has it in the shards' JSON."""
    place = np.arange(len(table)) // per_shard
    names = [shards[n].name for n in place]
    rows = table[kept].to_json(orient="records", double_precision=15, date_format="iso")
    keys = zip(running_keys(table), names, json.loads(rows), strict=True)
    return [{"key": key, "shard": name} | row for key, name, row in keys]


def _lines(rows):
    """A JSON list, a row a line."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


def _file(path):
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _reports(table):
    report = table.get("report", pd.Series(None, table.index, dtype=object))
    return report.map(lambda text: isinstance(text, str) and text.strip() != "")


# what the card says, from the table and the run


def _counts(table):
    """[what, value, patients in train, val, test]; films come first."""
    films = [int((table["split"] == part).sum()) for part in PARTS]
    rows = [["films", "", *films], ["patients", "", *_in_parts(table)]]
    for column in GROUPS:
        values = table.get(column, pd.Series(dtype=object)).dropna()
        for value in sorted(values.astype(str).unique()):
            has_it = table[column].astype(str) == value
            rows.append([column, value, *_in_parts(table[has_it])])
    for finding in findings_of(table):
        has_it = pd.to_numeric(table[finding]) == 1
        rows.append(["finding", finding, *_in_parts(table[has_it])])
    return rows


def _in_parts(table):
    patients = table.groupby("split")["patient_id"].nunique()
    return [int(patients.get(part, 0)) for part in PARTS]


def _audited(audit):
    columns = ["severity", "check", "about", "n", "of", "patients", "sentence"]
    rows = json.loads(audit.rows[columns].to_json(orient="records"))
    for row in rows:
        # an example of damage names its file
        row["sentence"] = row["sentence"].split(", such as: ")[0]
    examined = audit.examined
    skipped = examined[examined["of"] == 0]
    return {
        "films": len(audit.table),
        "checks": int((examined["of"] > 0).sum()),
        "skipped": [f"{s.check}: {s.note}" for s in skipped.itertuples()],
        "rows": rows,
    }


def _done(deidentified):
    refused = deidentified["refused"].fillna("") != ""
    total = Counter()
    for done in deidentified["done"].dropna():
        for count, what in re.findall(r"(\d+) ([^,]+)", done):
            total[what] += int(count)
    return {
        "written": int((~refused).sum()),
        "refused": int(refused.sum()),
        "done": dict(sorted(total.items())),
    }


def _limits(manifest, table):
    """What a reader has to know, as the run has it."""
    limits = ["Not for clinical use."]
    if manifest["deidentified"] is None:
        named = [c for c in ("patient_id", "study_id", "site", "report") if c in table]
        limits.append(
            f"No de-identification is recorded: {', '.join(named)} are as they came."
        )
    if manifest["flow"] is None:
        limits.append("How many films were lost on the way isn't recorded.")
    if manifest["audit"] is None:
        limits.append("No audit is recorded.")
    elif manifest["audit"]["films"] != len(table):
        limits.append(
            f"The audit saw {manifest['audit']['films']} films, not these {len(table)}."
        )
    findings = [row for row in manifest["counts"] if row[0] == "finding"]
    few = sum(row[-1] < FEW for row in findings)
    if few:
        limits.append(
            f"{few} of {len(findings)} findings have under {FEW} patients in the test."
        )
    sites = [row for row in manifest["counts"] if row[0] == "site"]
    if len(sites) < 2:
        limits.append("No second site is known: nothing is said about another one.")
    without = len(table) - manifest["reports"]
    if without:
        limits.append(f"{without} of {len(table)} films have no report.")
    return limits
