"""A table as webdataset shards (plain tar files), and shards as a stream of rows that can be resumed."""

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
from PIL import Image
from tqdm.auto import tqdm

from radwb.data.read import picture, read, write_png
from radwb.data.scan import ReadError
from radwb.data.table import check_table


def sample_keys(table: pd.DataFrame) -> list[str]:
    """A name a row, unique and without dots: the file's, with patient, study or number where two files share theirs."""
    parts = table.assign(file=[Path(p).stem for p in table["path"]], n=range(len(table))).astype(str)
    for columns in (["file"], [c for c in ("patient_id", "study_id", "file") if c in parts], ["n", "file"]):
        keys = [re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(k)) for k in parts[columns].itertuples(index=False)]
        if len({k.lower() for k in keys}) == len(keys):  # some file systems take a.png and A.png for one
            break
    return keys


def write_shards(table: pd.DataFrame, out: str | os.PathLike, *, per_shard: int = 1000, columns=None) -> list[Path]:
    """Write `out`/shard-000000.tar ... with KEY.json, KEY.txt (report), KEY.truth.png and KEY.png for each row.

    >>> paths = write_shards(table, "shards")            # the same table gives the same bytes

    Args:
        table: needs path and patient_id. A PNG goes in as it is, anything else as 8-bit PNG.
        columns: which go into the JSON, beside patient_id; None = all but paths and report.
    Returns:
        the shards in order; shards.json beside them, written last, has the rows and SHA-256 of each.
    """
    out, keys, about = Path(out), sample_keys(check_table(table)), []
    columns = [c for c in table if c not in ("path", "truth_path", "report")] if columns is None else columns
    paths = [out / f"shard-{n:06d}.tar" for n in range(-(-len(table) // per_shard))]
    if other := sorted(set(out.glob("shard-*.tar")) - set(paths)):
        raise ValueError(f"expected a folder without other shards, got {other[0]}. Try an empty folder.")
    out.mkdir(parents=True, exist_ok=True)
    (out / "shards.json").unlink(missing_ok=True)
    bar = tqdm(total=len(table), desc="writing shards", delay=2, leave=False)
    for n, path in enumerate(paths):
        part, rows = out / f".{os.getpid()}.part", range(len(table))[n * per_shard :][:per_shard]
        try:
            with tarfile.open(part, "w") as tar:
                for r in rows:
                    for suffix, data in _files(table.iloc[r], ["patient_id", *columns], part).items():
                        member = tarfile.TarInfo(f"{keys[r]}.{suffix}")  # time, user and group stay 0
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
    """suffix -> bytes; the image comes last, so that a sample cut short never looks whole."""
    path, given, report = Path(row["path"]), row.get("truth_path"), row.get("report")
    named = isinstance(given, str) and given
    truth = Path(given) if named else path.with_suffix(".truth.png")
    files = {"json": row[list(dict.fromkeys(columns))].to_json(double_precision=15, date_format="iso").encode()}
    files |= {"txt": report.encode()} if isinstance(report, str) else {}
    files |= {"truth.png": truth.read_bytes()} if named or truth.is_file() else {}
    if path.read_bytes()[:4] != b"\x89PNG":
        path = write_png(read(path, truth=False), part.with_suffix(".png"))
    files["png"] = path.read_bytes()
    part.with_suffix(".png").unlink(missing_ok=True)
    return files


def read_shards(paths, *, after: tuple[str, int] | None = None, on_bad=None):
    """Yield the rows of shards: {"key", "position", "pixels" (H, W) uint8, "report", and the table's columns}.

    >>> bad = []
    >>> rows = read_shards(paths, on_bad=bad.append)         # damaged samples are skipped, and stand in `bad`
    >>> rest = read_shards(paths, after=row["position"])     # goes on where a killed run stopped

    Args:
        paths: tar files of one folder in the order in which they are read.
        after: a row's position, (name of the shard, number in it).
        on_bad: gets {"position", "key", "error"} of a damaged sample or of a shard whose rest is lost; None = raise.
    """
    paths = [Path(p) for p in paths]
    names = [p.name for p in paths]
    if len(set(names)) < len(names) or (after and after[0] not in names):
        raise ValueError(f"expected shards of different names, {after or 'none'} among them, got {names[:3]} ...")
    start, skip = (names.index(after[0]), after[1] + 1) if after else (0, 0)
    for place, (name, path) in enumerate(zip(names[start:], paths[start:], strict=True)):
        for n, key, files in _samples(path, 0 if place else skip):
            try:
                row = _row(files) | {"key": key, "position": (name, n)}
            except (OSError, ValueError, KeyError, SyntaxError, Image.DecompressionBombError) as error:
                if on_bad is None:
                    raise ReadError(f"{name}: sample {n} ({key}) is damaged: {error!r}") from error
                on_bad({"position": (name, n), "key": key, "error": repr(error)})
            else:
                yield row


def _samples(path, skip):
    """(number, key, suffix -> bytes) of each sample; a shard that ends early gives a last one that holds the error."""
    n, key = 0, None
    try:
        with tarfile.open(path, "r:") as tar:
            for key, members in groupby((m for m in tar if m.isfile()), lambda m: m.name.partition(".")[0]):
                if n >= skip:
                    yield n, key, {m.name.partition(".")[2]: tar.extractfile(m).read() for m in members}
                n, key = n + 1, None
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(1024) != bytes(1024):  # tarfile ends in silence at a cut or an unreadable header
                raise tarfile.ReadError("no end mark: the shard is cut short or broken here, the rest is lost")
    except (tarfile.TarError, OSError) as error:
        yield n, key, {"error": error}


def _row(files):
    if "error" in files:
        raise ReadError(str(files["error"]))
    Image.open(io.BytesIO(files["png"])).verify()  # raises where a checksum is wrong
    with Image.open(io.BytesIO(files["png"])) as image:
        scan = picture(image)
    pixels = np.round(np.asarray(scan.pixels) * 255).astype(np.uint8)
    return json.loads(files["json"]) | {"report": files["txt"].decode() if "txt" in files else None, "pixels": pixels}
