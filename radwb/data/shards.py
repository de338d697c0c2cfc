"""A table as webdataset shards (plain tar files), and shards as a stream of rows."""

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb.data.checksum import sha256
from radwb.data.limits import max_bytes
from radwb.data.names import local_path, printable
from radwb.data.read import decode_picture, png_bytes, read, read_truth, truth_bytes
from radwb.data.scan import ReadError
from radwb.data.table import check_table

PICTURES = ("png", "jpg", "jpeg")
# bytes of a report or of its JSON, which grows as it becomes objects
MOST_TEXT = 1 << 24


def sample_keys(table: pd.DataFrame) -> list[str]:
    """A name a row, unique and without dots: the file's where no two share theirs.

    Else with patient and study, else with the row's number.
    """
    stems = [local_path(path).stem for path in table["path"]]
    texts = table.assign(file=stems, n=range(len(table))).astype(str)
    known = [c for c in ("patient_id", "study_id", "file") if c in texts]
    for columns in (["file"], known, ["n", "file"]):
        names = texts[columns].itertuples(index=False)
        keys = [re.sub("[^A-Za-z0-9_-]", "_", "-".join(name)) for name in names]
        # some file systems take a.png and A.png for one
        if len({key.lower() for key in keys}) == len(keys):
            break
    return keys


def running_keys(table: pd.DataFrame) -> list[str]:
    """The row's number: a key that says nothing of the file."""
    return [f"{n:06d}" for n in range(len(table))]


def write_shards(
    table: pd.DataFrame,
    out: str | os.PathLike,
    *,
    per_shard: int = 1000,
    columns: list[str] | None = None,
    anew: bool = False,
) -> list[Path]:
    """Pack a table of yours that is too large for memory, for `rw.pretrain.fit`.

    `out`/shard-000000.tar ... hold KEY.json, KEY.txt (report), KEY.truth.png and
    KEY.png for each row, as webdataset reads them.

    >>> paths = write_shards(table.head(3), "shards", per_shard=2)
    >>> [path.name for path in paths]  # the same table gives the same bytes
    ['shard-000000.tar', 'shard-000001.tar']

    Args:
        table: needs path and patient_id. A PNG goes in as it is, anything else as 8-bit
            PNG.
        out: a folder without other shards.
        per_shard: rows of a shard.
        columns: which go into the JSON, beside patient_id; None = all but paths and
            report.
        anew: True writes every picture anew, with its pixels, spacing and sides alone,
            and a running number for KEY, so that no name or text of a file goes along.
    Returns:
        the shards in order; shards.json beside them, written last, has the rows and
        SHA-256 of each.
    """
    out = Path(out)
    check_table(table)
    if per_shard < 1 or per_shard % 1:
        raise ValueError(f"expected 1 or more rows a shard, got per_shard={per_shard}")
    keys = running_keys(table) if anew else sample_keys(table)
    if columns is None:
        columns = [c for c in table if c not in ("path", "truth_path", "report")]
    columns = list(dict.fromkeys(["patient_id", *columns]))
    paths = [out / f"shard-{n:06d}.tar" for n in range(-(-len(table) // per_shard))]
    others = sorted(set(out.glob("shard-*.tar")) - set(paths))
    if others:
        raise ValueError(
            f"expected a folder without other shards, got {others[0]}. Try an empty "
            "folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "shards.json").unlink(missing_ok=True)
    rows = ((key, table.iloc[n]) for n, key in enumerate(keys))
    listed = []
    with tqdm(rows, "writing shards", len(table), delay=2, leave=False) as bar:
        samples = iter(bar)
        for path in paths:
            some = islice(samples, per_shard)
            listed.append(_write_shard(path, some, columns, anew))
    (out / "shards.json").write_text(json.dumps(listed, indent=1))
    return paths


def _write_shard(path, samples, columns, anew):
    """What shards.json says of the shard, which is there only when it's whole."""
    part = path.with_name(f".{os.getpid()}.part")
    count = 0
    try:
        with tarfile.open(part, "w") as tar:
            for key, row in samples:
                count += 1
                for suffix, data in _files(row, columns, anew):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)  # time, user and group stay 0
                    tar.addfile(member, io.BytesIO(data))
        digest = sha256(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return {"name": path.name, "rows": count, "sha256": digest}


def _files(row, columns, anew):
    """(suffix, bytes) of a row's files.

    The image comes last, so that a sample cut short never looks whole.
    """
    values = row[columns].to_json(double_precision=15, date_format="iso")
    yield "json", values.encode()
    report = row.get("report")
    if isinstance(report, str):
        yield "txt", report.encode()
    path = local_path(row["path"])
    truth = path.with_suffix(".truth.png")
    truth_path = row.get("truth_path")
    named = isinstance(truth_path, str) and truth_path != ""
    if named:
        truth = local_path(truth_path)
    if named or truth.is_file():
        yield "truth.png", _anew_truth(truth) if anew else truth.read_bytes()
    yield "png", _anew(path) if anew else _as_it_is(path)


def _as_it_is(path):
    data = path.read_bytes()
    is_png = data.startswith(b"\x89PNG")
    return data if is_png else png_bytes(read(path, truth=False))


def _anew(path):
    """Without view and modality: a file may hold any text there."""
    scan = read(path, truth=False)
    return png_bytes(replace(scan, view=None, modality=None))


def _anew_truth(path):
    return truth_bytes(read_truth(path))


def read_shards(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    after: tuple[str, int] | None = None,
    on_bad: Callable[[dict], Any] | None = None,
) -> Iterator[dict]:
    """Yield the rows of shards, for a training loop of your own.

    A row is {"key", "position", "pixels" (H, W) uint8, "report", and the table's
    columns}. A sample is read as webdataset does (`samples_of`), its picture (png, jpg
    or jpeg) as `read` does.

    >>> paths = write_shards(table.head(3), "shards", per_shard=2)
    >>> bad = []  # damaged samples are skipped, and stand in it
    >>> rows = list(read_shards(paths, on_bad=bad.append))
    >>> rest = read_shards(paths, after=rows[0]["position"])  # after the first
    >>> len(rows), len(list(rest)), bad
    (3, 2, [])

    Args:
        paths: tar files of one folder in the order in which they are read.
        after: a row's position, (name of the shard, number in it).
        on_bad: gets {"position", "key", "error"} of a damaged sample or of a shard
            whose rest is lost; None = raise.
    Raises:
        ReadError: a damaged sample or shard, without `on_bad`.
        ValueError: two shards of one name, or `after` is in none.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    shards = {Path(file).name: Path(file) for file in files}
    if len(shards) < len(files) or (after and after[0] not in shards):
        raise ValueError(
            f"expected shards of different names, {after or 'none'} among them, got "
            f"{list(shards)[:3]} ..."
        )
    skip = 0
    names = list(shards)
    if after:
        skip = after[1] + 1
        names = names[names.index(after[0]) :]
    for name in names:
        for n, key, row in outcomes(shards[name], _row, skip):
            place = {"key": key, "position": (name, n)}
            if not isinstance(row, Exception):
                yield row | place
            elif on_bad is not None:
                on_bad({**place, "error": reason(row)})
            else:
                text = f"{name}: sample {n} ({key}) is damaged: {reason(row)}"
                raise ReadError(text) from row
        skip = 0


def _row(tar, members):
    row, picture = read_sample(tar, members)
    scan = decode_picture(read_member(tar, picture), picture.name)
    pixels = np.round(np.asarray(scan.pixels) * 255).astype(np.uint8)
    return row | {"pixels": pixels}


# what a shard holds, read as webdataset reads it


def outcomes(
    path: Path, read_one: Callable, skip: int = 0
) -> Iterator[tuple[int, str | None, Any]]:
    """(number, key, what comes of it or the error) of each sample of a shard.

    A shard that isn't there or ends early gives a last one, (number, None, error).

    Args:
        path: of the shard.
        read_one: (tar, members) of a sample -> what is wanted of it.
        skip: how many samples at the beginning are passed over.
    """
    n = 0
    try:
        for n, key, members, tar in samples_of(path):
            if n >= skip:
                yield n, key, _or_error(read_one, tar, members)
            n += 1
    except Exception as error:
        yield n, None, error


def _or_error(read_one, tar, members):
    try:
        return read_one(tar, members)
    # what a damaged sample breaks can't be foreseen
    except Exception as error:
        return error


def reason(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}"[:200])


def samples_of(path: Path) -> Iterator[tuple[int, str, list, tarfile.TarFile]]:
    """(number, key, [(suffix, member), ...], tar) of each sample.

    By the rules of webdataset 1.0, neighbours with one key are a sample: the name up to
    the first dot after its last slash. Folders, links, names without a dot and names
    like __this__ are passed over; a name with .. is a key and nothing else.

    Raises:
        tarfile.TarError, OSError: the shard isn't there, or its rest is lost.
    """
    with tarfile.open(path, "r:") as tar:
        samples = groupby(_members(tar), lambda member: member[0])
        for n, (key, group) in enumerate(samples):
            yield n, key, [(suffix, member) for _, suffix, member in group], tar
        tar.fileobj.seek(tar.offset)
        # tarfile ends in silence at a cut or an unreadable header
        if tar.fileobj.read(1024) != bytes(1024):
            raise tarfile.ReadError(
                "no end mark: the shard is cut short or broken here, the rest is lost"
            )


def _members(tar):
    """(key, suffix, member), split as webdataset's base_plus_ext does."""
    for member in tar:
        name = re.match(r"((?:.*/|)[^.]+)[.]([^/]*)$", member.name)
        passed_over = re.match("__[^/]*__($|/)", member.name)
        if name and not passed_over and member.isreg():
            yield name[1], name[2].lower(), member


def read_sample(tar: tarfile.TarFile, members: list) -> tuple[dict, tarfile.TarInfo]:
    """The JSON's columns with the report, and the member that is the picture.

    Raises:
        ValueError: no picture, two members of one suffix, JSON that isn't an object,
            text that isn't UTF-8.
    """
    files = dict(members)
    if len(files) < len(members):
        suffixes = ", ".join(suffix for suffix, _ in members)
        raise ValueError(f"expected each suffix once, got {suffixes}")
    pictures = [files[suffix] for suffix in PICTURES if suffix in files]
    if not pictures:
        expected = ", ".join(PICTURES)
        raise ValueError(f"expected one of {expected}, got {', '.join(files)}")
    row = {}
    if "json" in files:
        row = json.loads(read_member(tar, files["json"], MOST_TEXT))
    if not isinstance(row, dict):
        kind = type(row).__name__
        raise ValueError(f"expected a JSON object of columns, got a {kind}")
    row["report"] = None
    if "txt" in files:
        row["report"] = read_member(tar, files["txt"], MOST_TEXT).decode("utf-8-sig")
    return row, pictures[0]


def read_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, most: int | None = None
) -> bytes:
    """Its bytes, at most `most`, or a quarter of the limit that holds for a file."""
    most = max_bytes() // 4 if most is None else most
    if member.size > most:
        raise ValueError(
            f"{member.name} claims {member.size:,} bytes, more than {most:,}"
        )
    data = tar.extractfile(member).read()
    if len(data) < member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")
    return data
