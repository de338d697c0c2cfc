"""The files of a set's folder: its tables, its images and its lists."""

import gzip
import os
import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from radwb.data.names import local_path, printable


class Files:
    """All files below a folder, found by the end of their path.

    Args:
        folder: of the set, or of a part of it.
        title: of the set, for what is said.
    """

    def __init__(self, folder: str | Path, title: str):
        self.folder = local_path(folder)
        self.title = title
        if not self.folder.is_dir():
            raise ValueError(f"{title}: expected a folder, got {self.folder}.")
        self.by_name = {}
        for parent, folders, names in os.walk(self.folder):
            folders.sort()
            for name in names:
                self.by_name.setdefault(name, []).append(Path(parent, name))

    def all(self, ending):
        """Paths that end so: a/b.png is also FOLDER/x/a/b.png."""
        parts = tuple(ending.split("/"))
        paths = self.by_name.get(parts[-1], [])
        return [path for path in paths if path.parts[-len(parts) :] == parts]

    def one(self, ending):
        """The path that ends so and is the nearest to the folder; None without one."""
        paths = self.all(ending)
        return min(paths, key=lambda path: len(path.parts)) if paths else None

    def image(self, endings):
        """(path, "") of the first that is there, or (None, why there is none)."""
        for ending in endings:
            paths = self.all(ending) if ending else []
            if len(paths) == 1:
                return paths[0], ""
            if paths:
                places = f"{len(paths)} of them. Try a folder with one release alone"
                return None, printable(f"{ending}: expected one image, got {places}")
        wanted = endings[0] or "a row without the name of an image"
        return None, printable(f"{wanted}: expected an image, got none in the folder")

    def _table_path(self, name):
        return self.one(name) or self.one(f"{name}.gz")

    def has(self, name):
        return self._table_path(name) is not None

    def table(self, name, needs):
        """A CSV as text throughout, so that no identifier loses a zero."""
        path = self._table_path(name)
        try:
            table = pd.read_csv(path, dtype=str, low_memory=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(
                f"{path.name}: expected a CSV in UTF-8, got {type(error).__name__} "
                f"({printable(str(error))[:100]})"
            ) from error
        missing = [column for column in needs if column not in table]
        if missing:
            raise ValueError(
                f"{path.name}: expected the columns {missing}, got {list(table)[:30]}. "
                f"Try the table as {self.title} publishes it."
            )
        return table.assign(_table=name)

    def alternative(self, alternatives):
        """The tables that are there, of the first alternative of which any is."""
        for names in alternatives:
            there = [name for name in names if self.has(name)]
            if there:
                return there
        return []

    def tables(self, about):
        """The set's own rows."""
        there = self.alternative(about["files"])
        if not there:
            names = [name for files in about["files"] for name in files]
            raise ValueError(
                f"{self.title}: expected {' or '.join(names)} in {self.folder}, got "
                "none. Try the folder that holds the set's tables and images."
            )
        names = about.get("rename", {})
        tables = [self.table(n, about["needs"]).rename(columns=names) for n in there]
        raw = pd.concat(tables, ignore_index=True)
        for column, pattern in about.get("patterns", {}).items():
            raw = raw.join(raw[column].str.extract(pattern))
        return raw

    def split(self, about, films):
        """(N,) train, val, test or None, as the set says it."""
        told = about.get("split", {})
        parts = pd.Series(None, films.index, dtype=object)
        if "tables" in told:
            parts = films["_table"].map(told["tables"]).astype(object)
        if "split" in films:
            parts = films["split"].replace("validate", "val")
        for name, part in told.get("lists", {}).items():
            parts[self.is_listed(name, films)] = part
        return parts.where(parts.notna(), None)

    def is_listed(self, name, films):
        """(N,) whether a list, of a file a line, names an image."""
        path = self._table_path(name)
        lines = _text(path).split() if path else []
        names = {Path(line).name for line in lines}
        return [Path(image).name in names for image in films.index]

    def refused(self, about, films):
        """(N,) why an image that is there isn't to be used; None else."""
        why = pd.Series(None, films.index, dtype=object)
        for name in about.get("refuse", {}).get("lists", []):
            why[self.is_listed(name, films)] = f"the publisher's {name} names it"
        return why

    def folder_of(self, suffix):
        """The folder with files of that kind that is the nearest."""
        paths = [
            paths[0] for name, paths in self.by_name.items() if name.endswith(suffix)
        ]
        if not paths:
            raise ValueError(
                f"{self.title}: expected {suffix} files in {self.folder}, got none."
            )
        return min(paths, key=lambda path: len(path.parts)).parent

    def xml_roots(self, folder):
        for path in sorted(folder.glob("*.xml"), key=_number):
            try:
                yield ElementTree.parse(path).getroot()
            except ElementTree.ParseError as error:
                raise ValueError(
                    f"{path.name}: expected the XML of a report, got {error}. Try to "
                    "fetch it again, or to take it away."
                ) from error


def _text(path):
    """A list's text, also of a .gz."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            return lines.read()
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path.name}: expected a list in UTF-8, got {type(error).__name__}. Try "
            "to fetch it again."
        ) from error


def _number(path):
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.stem
