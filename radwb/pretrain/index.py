"""The index of shards: what is in them, where, and what of it is damaged."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from radwb.data.fetch import sha256
from radwb.data.read import check_picture_bytes
from radwb.data.shards import outcomes, read_member, read_sample, reason


def shard_paths(shards: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """Name -> file of each shard: of a folder those in its shards.json, or its *.tar.

    Raises:
        ValueError: there are none, or two have one name.
    """
    if isinstance(shards, str | Path):
        folder = Path(shards)
        listed = [folder / name for name in _listed([folder])]
        shards = listed or sorted(folder.glob("*.tar"))
    paths = {Path(p).name: Path(p) for p in shards}
    if not paths or len(paths) < len(shards):
        raise ValueError(
            "expected shards (.tar files of different names), "
            f"got {[str(s) for s in shards][:3]}. "
            "Try the folder that rw.data.write_shards(table, folder) wrote."
        )
    return paths


def digest(paths: dict[str, Path]) -> str:
    """Of the shards' names and sha256.

    Of one that is lost what shards.json says, so that a loss changes nothing.
    """
    listed = _listed(path.parent for path in paths.values())
    about = []
    for name, path in tqdm(paths.items(), "checksums of shards", delay=2, leave=False):
        checksum = listed.get(name, {}).get("sha256")
        if path.is_file():
            checksum = _sha256(path)
        about.append([name, checksum])
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str | None:
    """None of a file that can't be read: `index` says why."""
    try:
        return sha256(path)
    except OSError:
        return None


def index(paths: dict[str, Path]) -> tuple[list[dict], list[dict]]:
    """One pass over the shards: what is in them, and what is damaged.

    Returns:
        {key, row, place} for each sound sample; {shard, number, key, error, samples}
        for each damaged sample, missing shard, or rest of a shard that is cut short.
    """
    listed = _listed(path.parent for path in paths.values())
    samples, skipped = [], []
    for name, path in tqdm(paths.items(), "reading shards", delay=2, leave=False):
        for n, key, outcome in outcomes(path, _row_and_picture):
            if not isinstance(outcome, Exception):
                row, picture = outcome
                place = [name, n, picture.offset_data, picture.size]
                samples.append({"key": key, "row": row, "place": place})
            elif key is not None:
                skipped.append(skip(name, n, key, outcome))
            else:  # the rest of the shard; as many as in the others, if nobody says
                rows = len(samples) // max(1, len(paths) - 1)
                if name in listed:
                    rows = listed[name]["rows"]
                lost = max(1, rows - n)
                skipped.append(skip(name, n, None, outcome, samples=lost))
    return samples, skipped


def _row_and_picture(tar, members):
    row, picture = read_sample(tar, members)
    check_picture_bytes(read_member(tar, picture), picture.name)
    return row, picture


def skip(
    shard: str, number: int, key: str | None, error: Exception, samples: int = 1
) -> dict:
    """A line of skipped.csv: what is lost, and why."""
    return {
        "shard": shard,
        "number": number,
        "key": key,
        "error": reason(error),
        "samples": samples,
    }


def _listed(folders) -> dict[str, dict]:
    """Name -> {name, rows, sha256} of shards, as the shards.json beside them say."""
    listed = {}
    for folder in dict.fromkeys(folders):
        file = folder / "shards.json"
        if file.is_file():
            listed |= {shard["name"]: shard for shard in _read_list(file)}
    return listed


def _read_list(file: Path) -> list[dict]:
    try:
        shards = json.loads(file.read_text())
        good = all(
            Path(shard["name"]).name == shard["name"] and int(shard["rows"]) >= 0
            for shard in shards
        )
    except (OSError, ValueError, TypeError, KeyError):
        good = False
    if not good:
        raise ValueError(
            f"expected a list of name, rows and sha256 in {file}, "
            "got something else or a part of it. Try write_shards anew, or remove it."
        )
    return shards


def warn_of_unknown_patients(samples: list[dict]) -> None:
    """Of samples with a split whose patient isn't known."""
    rows = [sample["row"] for sample in samples]
    unknown = sum("split" in row and "patient_id" not in row for row in rows)
    if unknown:
        warnings.warn(
            f"{unknown} of {len(samples)} samples have a split and no patient_id: each "
            "is taken for another patient's, and nobody can tell whether one is on two "
            "sides.",
            stacklevel=5,
        )


def check_damage(samples: int, skipped: list[dict], max_bad: float, out: Path) -> None:
    """Stop when more is damaged than may be.

    Args:
        samples: how many are sound.
        skipped: what is not, as in skipped.csv.
        max_bad: share of all that may be.
        out: folder of the run, whose skipped.csv names them.
    """
    bad = sum(line["samples"] for line in skipped)
    total = samples + bad
    if bad > max_bad * total:
        raise ValueError(
            f"expected at most {max_bad:.1%} damaged samples, got {bad} of about "
            f"{total} ({bad / total:.1%}); {out / 'skipped.csv'} names them. "
            "Try to write or copy the shards anew, or a higher max_bad."
        )
