"""A table as webdataset shards (plain tar files), and shards as a stream of rows that
can be resumed.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radwb.data.limits import max_bytes
from radwb.data.names import local_path, printable
from radwb.data.read import decode_picture, read, write_png
from radwb.data.scan import ReadError
from radwb.data.table import check_table

PICTURES = ("png", "jpg", "jpeg")
MOST_TEXT = (
    1 << 24
)  # bytes of a report or of its JSON, which grows as it becomes objects


def sample_keys(table: pd.DataFrame) -> list[str]:
    """A name a row, unique and without dots: the file's, with patient, study or number
    where two files share theirs.
    """
    parts = table.assign(
        file=[local_path(p).stem for p in table["path"]], n=range(len(table))
    ).astype(str)
    for columns in (
        ["file"],
        [c for c in ("patient_id", "study_id", "file") if c in parts],
        ["n", "file"],
    ):
        keys = [
            re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(k))
            for k in parts[columns].itertuples(index=False)
        ]
        if len({k.lower() for k in keys}) == len(
            keys
        ):  # some file systems take a.png and A.png for one
            break
    return keys


def write_shards(
    table: pd.DataFrame, out: str | os.PathLike, *, per_shard: int = 1000, columns=None
) -> list[Path]:
    """Write `out`/shard-000000.tar ... with KEY.json, KEY.txt (report), KEY.truth.png
    and KEY.png for each row.

    >>> paths = write_shards(table, "shards")            # the same table gives the same bytes

    Args:
        table: needs path and patient_id. A PNG goes in as it is, anything else as 8-bit
            PNG.
        columns: which go into the JSON, beside patient_id; None = all but paths and
            report.
    Returns:
        the shards in order; shards.json beside them, written last, has the rows and
        SHA-256 of each.
    """
    out, keys, about = Path(out), sample_keys(check_table(table)), []
    columns = (
        [c for c in table if c not in ("path", "truth_path", "report")]
        if columns is None
        else columns
    )
    paths = [out / f"shard-{n:06d}.tar" for n in range(-(-len(table) // per_shard))]
    if other := sorted(set(out.glob("shard-*.tar")) - set(paths)):
        raise ValueError(
            f"expected a folder without other shards, got {other[0]}. Try an empty folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "shards.json").unlink(missing_ok=True)
    bar = tqdm(total=len(table), desc="writing shards", delay=2, leave=False)
    for n, path in enumerate(paths):
        part, rows = (
            out / f".{os.getpid()}.part",
            range(len(table))[n * per_shard :][:per_shard],
        )
        try:
            with tarfile.open(part, "w") as tar:
                for r in rows:
                    for suffix, data in _files(
                        table.iloc[r], ["patient_id", *columns], part
                    ).items():
                        member = tarfile.TarInfo(
                            f"{keys[r]}.{suffix}"
                        )  # time, user and group stay 0
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
                    bar.update()
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            about.append({"name": path.name, "rows": len(rows), "sha256": digest})
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    bar.close()
    (out / "shards.json").write_text(json.dumps(about, indent=1))
    return paths


def _files(row, columns, part):
    """suffix -> bytes; the image comes last, so that a sample cut short never looks
    whole.
    """
    path, given, report = (
        local_path(row["path"]),
        row.get("truth_path"),
        row.get("report"),
    )
    named = isinstance(given, str) and given
    truth = local_path(given) if named else path.with_suffix(".truth.png")
    files = {
        "json": row[list(dict.fromkeys(columns))]
        .to_json(double_precision=15, date_format="iso")
        .encode()
    }
    files |= {"txt": report.encode()} if isinstance(report, str) else {}
    files |= {"truth.png": truth.read_bytes()} if named or truth.is_file() else {}
    if path.read_bytes()[:4] != b"\x89PNG":
        path = write_png(read(path, truth=False), part.with_suffix(".png"))
    files["png"] = path.read_bytes()
    part.with_suffix(".png").unlink(missing_ok=True)
    return files


def read_shards(paths, *, after: tuple[str, int] | None = None, on_bad=None):
    """Yield the rows of shards: {"key", "position", "pixels" (H, W) uint8, "report",
    and the table's columns}.

    >>> bad = []
    >>> rows = read_shards(paths, on_bad=bad.append)         # damaged samples are skipped, and stand in `bad`
    >>> rest = read_shards(paths, after=row["position"])     # goes on where a killed run stopped

    A sample is read as webdataset does (`samples_of`), its picture (png, jpg or jpeg)
    as `read` does.

    Args:
        paths: tar files of one folder in the order in which they are read.
        after: a row's position, (name of the shard, number in it).
        on_bad: gets {"position", "key", "error"} of a damaged sample or of a shard
            whose rest is lost; None = raise.
    """
    paths = [
        Path(p) for p in ([paths] if isinstance(paths, str | os.PathLike) else paths)
    ]
    names = [p.name for p in paths]
    if len(set(names)) < len(names) or (after and after[0] not in names):
        raise ValueError(
            f"expected shards of different names, {after or 'none'} among them, got {names[:3]} ..."
        )
    start, skip = (names.index(after[0]), after[1] + 1) if after else (0, 0)
    for place, (name, path) in enumerate(
        zip(names[start:], paths[start:], strict=True)
    ):
        for n, key, row in _rows(path, 0 if place else skip):
            if not isinstance(row, Exception):
                yield row | {"key": key, "position": (name, n)}
            elif on_bad is None:
                raise ReadError(
                    f"{name}: sample {n} ({key}) is damaged: {reason(row)}"
                ) from row
            else:
                on_bad({"position": (name, n), "key": key, "error": reason(row)})


def _rows(path: Path, skip: int):
    """(number, key, row or error) of each sample; a shard that ends early gives a last
    one with the error.
    """
    n = 0
    try:
        for n, key, members, tar in samples_of(path):
            if n >= skip:
                yield n, key, _row(tar, members)
            n += 1
    except Exception as error:
        yield n, None, error


def _row(tar: tarfile.TarFile, members: list) -> dict | Exception:
    try:
        about, picture = read_sample(tar, members)
        scan = decode_picture(read_member(tar, picture), picture.name)
    except Exception as error:  # what a damaged sample breaks can't be foreseen
        return error
    return about | {"pixels": np.round(np.asarray(scan.pixels) * 255).astype(np.uint8)}


# what a shard holds, read as webdataset reads it


def reason(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}"[:200])


def samples_of(path: Path):
    """(number, key, [(suffix, member), ...], tar) of each sample, by the rules of
    webdataset 1.0.

    Neighbours with one key are a sample: the name up to the first dot after its last
    slash. Folders, links, names without a dot and names like __this__ are passed over;
    a name with .. is a key and nothing else.

    Raises:
        tarfile.TarError, OSError: the shard isn't there, or its rest is lost.
    """
    with tarfile.open(path, "r:") as tar:
        named = ((match, member) for member in tar if (match := _name(member)))
        for n, (key, group) in enumerate(groupby(named, lambda item: item[0][1])):
            yield n, key, [(match[2].lower(), member) for match, member in group], tar
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(1024) != bytes(
            1024
        ):  # tarfile ends in silence at a cut or an unreadable header
            raise tarfile.ReadError(
                "no end mark: the shard is cut short or broken here, the rest is lost"
            )


def _name(member: tarfile.TarInfo) -> re.Match | None:
    """Key and suffix of a member, as webdataset's base_plus_ext splits them."""
    if not member.isreg() or re.match(r"__[^/]*__($|/)", member.name):
        return None
    return re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", member.name)


def read_sample(tar: tarfile.TarFile, members: list) -> tuple[dict, tarfile.TarInfo]:
    """The JSON's columns with the report, and the member that is the picture.

    Raises:
        ValueError: no picture, two members of one suffix, JSON that isn't an object,
            text that isn't UTF-8.
    """
    files = dict(members)
    if len(files) < len(members):
        raise ValueError(
            f"expected each suffix once, got {', '.join(suffix for suffix, _ in members)}"
        )
    picture = next((files[suffix] for suffix in PICTURES if suffix in files), None)
    if picture is None:
        raise ValueError(
            f"expected one of {', '.join(PICTURES)}, got {', '.join(files)}"
        )
    columns = (
        json.loads(read_member(tar, files["json"], MOST_TEXT))
        if "json" in files
        else {}
    )
    if not isinstance(columns, dict):
        raise ValueError(
            f"expected a JSON object of columns, got a {type(columns).__name__}"
        )
    report = (
        read_member(tar, files["txt"], MOST_TEXT).decode("utf-8-sig")
        if "txt" in files
        else None
    )
    return columns | {"report": report}, picture


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
