"""The data card of a published cohort: one HTML page, and Croissant for machines."""

import json
import logging
import re
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from radwb.curate.split import PARTS
from radwb.data.table import FINDINGS

PAGE = "card.html"
CROISSANT = "croissant.json"
NUMBERS = (*FINDINGS, "age_years")
KINDS = {".tar": "application/x-tar", ".json": "application/json"}
BIASES = ("leak", "look")


def write_card(folder: Path, manifest: dict) -> list[Path]:
    """Write card.html, and croissant.json where mlcroissant is there.

    Args:
        folder: as `rw.curate.publish` wrote it.
        manifest: what the card says; nothing in it is typed by hand.
    Returns:
        what was written.
    """
    (folder / PAGE).write_text(_page(manifest))
    if find_spec("mlcroissant") is None:
        warnings.warn(
            f"no {CROISSANT} was written: mlcroissant is missing. Try pip install "
            "'radwb[curate]'",
            stacklevel=4,
        )
        return [folder / PAGE]
    with _quiet():
        text = json.dumps(_metadata(manifest).to_json(), indent=1)
    (folder / CROISSANT).write_text(text + "\n")
    return [folder / PAGE, folder / CROISSANT]


def check_card(folder: Path, manifest: dict) -> None:
    """Refuse a Croissant card that isn't valid, or is another cohort's.

    Args:
        folder: that holds the card; without one, or without mlcroissant, all is well.
        manifest: whose files it has to name.
    Raises:
        ValueError: with mlcroissant's words.
    """
    path = folder / CROISSANT
    if not path.is_file() or find_spec("mlcroissant") is None:
        return
    import mlcroissant

    try:
        with _quiet():
            metadata = mlcroissant.Dataset(path).metadata
    except Exception as error:  # what a broken card breaks can't be foreseen
        raise ValueError(
            f"{CROISSANT}: expected a valid card, got {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    named = {file.name: file.sha256 for file in metadata.file_objects}
    named["the title"] = metadata.name
    expected = {file["name"]: file["sha256"] for file in _described(manifest)}
    expected["the title"] = manifest["title"]
    if named != expected:
        unlike = sorted(set(named.items()) ^ set(expected.items()))
        raise ValueError(
            f"{CROISSANT}: expected title and files of the manifest, got others: "
            f"{unlike[0][0]}"
        )


@contextmanager
def _quiet():
    """Without mlcroissant's advice on properties that nobody knows here."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


# Croissant


def _metadata(manifest):
    import mlcroissant as mc

    files = [_file_object(file) for file in _described(manifest)]
    shards = [file.id for file in files if file.id.endswith(".tar")]
    pictures = mc.FileSet(
        id="films",
        name="films",
        contained_in=shards,
        includes=["*.png"],
        encoding_formats=["image/png"],
    )
    return mc.Metadata(
        name=manifest["title"],
        description=_summary(manifest),
        license=[manifest["licence"]],
        cite_as=manifest["source"],
        distribution=[*files, pictures],
        record_sets=[_records(manifest)],
        data_collection=manifest["source"],
        data_limitations=manifest["limits"],
        data_biases=_sentences(manifest),
        personal_sensitive_information=[_deidentification(manifest)],
    )


def _described(manifest):
    """The files that hold films; what names the shards for the trainer isn't one."""
    files = manifest["files"]
    return [file for file in files if file["name"] != "shards.json"]


def _file_object(file):
    import mlcroissant as mc

    return mc.FileObject(
        id=file["name"],
        name=file["name"],
        content_url=file["name"],
        content_size=f"{file['bytes']} B",
        encoding_formats=[KINDS[Path(file["name"]).suffix]],
        sha256=file["sha256"],
    )


def _records(manifest):
    """The rows of table.json.

    JSON, since a CSV would be read with numbers for patients: 0007 would be 7.
    """
    import mlcroissant as mc

    fields = []
    for column in ["key", "shard", *manifest["columns"]]:
        kind = mc.DataType.FLOAT if column in NUMBERS else mc.DataType.TEXT
        place = mc.Extract(json_path=f"$[*].['{column}']")
        fields.append(
            mc.Field(
                # no blanks in a name of Croissant's
                id="table/" + re.sub(r"\W", "_", column),
                name=column,
                data_types=[kind],
                source=mc.Source(file_object="table.json", extract=place),
            )
        )
    return mc.RecordSet(id="table", name="table", fields=fields)


# the words of both


def _summary(manifest):
    return (
        f"{manifest['films']:,} films of {manifest['patients']:,} patients, split by "
        f"{manifest['split']['by']}, {manifest['reports']:,} with a report. Made by "
        f"radwb {manifest['radwb']}. Not for clinical use."
    )


def _sentences(manifest):
    """What the audit found that may mislead."""
    audit = manifest["audit"]
    if audit is None:
        return ["No audit is recorded."]
    rows = [row for row in audit["rows"] if row["severity"] in BIASES]
    found = [f"{row['check']}: {row['sentence']}" for row in rows]
    return found or [f"The audit of {audit['films']} films found none."]


def _deidentification(manifest):
    done = manifest["deidentified"]
    if done is None:
        return "No de-identification is recorded."
    counts = ", ".join(f"{n:,} {what}" for what, n in done["done"].items())
    return (
        f"De-identified by rw.curate.deidentify (PS3.15 Basic Profile): "
        f"{done['written']:,} files written, {done['refused']:,} refused; {counts}."
    )


def _page(manifest):
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("card_page.html")
    return template.render(
        manifest,
        parts=PARTS,
        summary=_summary(manifest),
        deidentification=_deidentification(manifest),
    )
