"""`publish` and `verify`: shards with a manifest, and the same read back."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from radwb.curate.audit import Audit
from radwb.curate.card import check_card, write_card
from radwb.curate.flow import Flow
from radwb.curate.split import PARTS, check_split, need_patients
from radwb.data.checksum import sha256
from radwb.data.shards import read_shards, sample_keys, write_shards
from radwb.data.table import check_table, film_keys, findings_of

# of the schema: nothing that leads back to an original, such as path or source
SHARED = ("patient_id", "study_id", "view", "site", "sex", "age_years", "split")
GROUPS = ("view", "site", "sex")
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
        deidentified: what `rw.curate.deidentify` returned; each film must be in it.
        by: what the split is by: patient or site, which is checked.
        seed: of the split.
        columns: further columns to go out; of others only those of the schema do.
        per_shard: films of a shard.
    Returns:
        the manifest.
    Raises:
        ValueError: something is missing, doesn't fit together, or a patient is in two
            parts.
    """
    out = Path(out)
    _check_words(title=title, licence=licence, source=source)
    table = check_split(check_table(table), by).reset_index(drop=True)
    table = table.assign(patient_id=need_patients(table))
    _check_together(table, flow, deidentified, columns)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"expected an empty folder, got {out} with files in it")
    kept = [c for c in (*SHARED, *findings_of(table), *columns) if c in table.columns]
    shards = write_shards(table, out, per_shard=per_shard, columns=kept)
    rows = _listed(table, kept, shards, per_shard)
    (out / TABLE).write_text(_lines(rows))
    counts = _counts(table)
    manifest = {
        "title": title,
        "licence": licence,
        "source": source,
        "radwb": version("radwb"),
        "split": {"by": by, "seed": seed},
        "columns": kept,
        "films": len(table),
        "patients": int(table["patient_id"].nunique()),
        "reports": int(_reports(table).sum()),
        "counts": counts,
        "flow": None if flow is None else flow.to_dict(),
        "audit": None if audit is None else _audited(audit),
        "deidentified": None if deidentified is None else _done(deidentified),
        "files": [_file(path) for path in [*shards, out / "shards.json", out / TABLE]],
    }
    manifest["limits"] = _limits(manifest, table)
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    write_card(out, manifest)
    verify(out)
    return manifest


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
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = {file["name"]: file["sha256"] for file in manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected {MANIFEST} as rw.curate.publish writes it in {folder}, got "
            f"{type(error).__name__}: {error}"
        ) from error
    for name, expected in files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise ValueError(f"expected {name} in {folder}, got no such file")
        if sha256(path) != expected:
            raise ValueError(
                f"{name}: expected the SHA-256 {expected[:12]}..., got "
                f"{sha256(path)[:12]}.... Try to copy it again"
            )
    shards = sorted(name for name in files if name.endswith(".tar"))
    if shards != sorted(path.name for path in folder.glob("*.tar")):
        raise ValueError(f"expected no shards but {shards[:3]} ..., got others as well")
    rows = json.loads((folder / TABLE).read_text())
    table = pd.DataFrame(rows)
    _compare(read_shards([folder / name for name in shards]), rows)
    check_split(table, manifest["split"]["by"])
    if manifest["counts"] != _counts(table):
        raise ValueError(f"{MANIFEST}: expected the counts of {TABLE}, got others")
    check_card(folder, manifest)
    return table


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


def _check_together(table, flow, deidentified, columns):
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise ValueError(f"expected the columns {missing}, got {list(table.columns)}")
    if flow is not None and flow.steps["films"].iloc[-1] != len(table):
        raise ValueError(
            f"expected the flow to end with {len(table)} films, got "
            f"{flow.steps['films'].iloc[-1]}. Try table = flow.keep(name, table, why=)"
        )
    if deidentified is None:
        return
    written = set(film_keys(deidentified["path"].dropna()))
    others = sum(key not in written for key in film_keys(table["path"]))
    if others:
        raise ValueError(
            f"expected films that rw.curate.deidentify wrote, got {others} of "
            f"{len(table)} others"
        )


def _listed(table, kept, shards, per_shard):
    """A dictionary a film, as its sample has it in the shards' JSON."""
    place = np.arange(len(table)) // per_shard
    names = [shards[n].name for n in place]
    rows = table[kept].to_json(orient="records", double_precision=15, date_format="iso")
    keys = zip(sample_keys(table), names, json.loads(rows), strict=True)
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
        limits.append("No de-identification is recorded.")
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
