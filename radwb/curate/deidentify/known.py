"""Values that identify: collected from a header, then looked for everywhere else."""

import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

SHORTEST = 3  # bytes of a number or a place; a shorter one is in every text
SURE = 6  # bytes of a value that doesn't stand in pixels by chance
SPELLINGS = (
    "%Y%m%d",
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d %B %Y",
    "%d %b %Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%B %d %Y",
    "%d-%b-%Y",
    "%d.%m.%y",
    "%d/%m/%y",
    "%m/%d/%y",
)
# what stands where a name was, and names nobody
PLACEHOLDERS = frozenset(
    ("anonymous", "anonymized", "name", "none", "n/a", "patient", "removed", "test")
    + ("unknown", "unnamed", "xxxx")
)
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "latin-1")


@dataclass
class Known:
    """What is known to identify a patient: words of names, other values, days."""

    names: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    days: set[date] = field(default_factory=set)

    def add_name(self, text: str) -> None:
        """A person's name, of which each word identifies."""
        words = re.split(r"[\^=\s,;.\\/()_]+", text)
        self.names |= {word for word in words if len(word) > 1 and _is_name(word)}

    def add_value(self, text: str) -> None:
        """A number, a place or a text that identifies as a whole."""
        text = text.strip(" \0")
        if _length(text) >= SHORTEST and text.lower() not in PLACEHOLDERS:
            self.values.add(text)

    def add_day(self, text: str) -> None:
        """A date as DICOM writes it; what isn't one is a value."""
        match = re.match(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)", text.strip())
        try:
            year, month, day = map(int, match.groups())
            self.days.add(date(year, month, day))
        except (AttributeError, ValueError):
            self.add_value(text)

    def update(self, other: "Known") -> None:
        """Know what another knows, too."""
        self.names |= other.names
        self.values |= other.values
        self.days |= other.days

    def texts(self) -> list[str]:
        """All of it as it may be written, the longest first."""
        days = {text for day in self.days for text in spellings(day)}
        return sorted(self.names | self.values | days, key=len, reverse=True)

    def pattern(self) -> re.Pattern | None:
        """What finds its values and days as whole words, whatever their case."""
        days = {text for day in self.days for text in spellings(day)}
        return _any_of(self.values | days)

    def name_pattern(self) -> re.Pattern | None:
        """What finds its names as whole words, whatever their case."""
        return _any_of(self.names)


def _any_of(texts):
    longest_first = sorted(texts, key=len, reverse=True)
    long_enough = (text for text in longest_first if _length(text) >= SHORTEST)
    either = [_whole(text) for text in long_enough]
    return re.compile("|".join(either), re.IGNORECASE) if either else None


def _length(text):
    """In bytes: a name of two Chinese characters is as rare as one of six letters."""
    return len(text.encode("utf-8", "replace"))


def _whole(text):
    """A value as a whole word; blanks may be of any length, and DOE^JOHN DOE, JOHN."""
    loose = r"[\s^,]+".join(map(re.escape, re.split(r"[\s^,]+", text)))
    if re.search(r"[\u2e80-\uffef]", text):  # these scripts have no blanks
        return loose
    return rf"(?<!\w){loose}(?!\w)"


def spellings(day: date) -> set[str]:
    """A day as people write it, also without leading zeros.

    >>> sorted(spellings(date(2021, 3, 5)))[:2]
    ['03-05-2021', '03/05/2021']
    """
    written = {f"{day:{spelling}}" for spelling in SPELLINGS}
    return written | {re.sub(r"(?<!\d)0(?=\d(?!\d))", "", text) for text in written}


def find_values(folder: str | Path, values: Iterable[str]) -> list[tuple[str, str]]:
    """Search every byte below a folder, and every name there, for values.

    >>> _ = Path("out.bin").write_bytes("DOE^JANE".encode("utf-16-le"))
    >>> [value for file, value in find_values(".", ["doe^jane"]) if file == "out.bin"]
    ['doe^jane']

    Case doesn't matter; UTF-8, UTF-16 and Latin-1 are tried, and what gzip packed is
    unpacked.

    Args:
        folder: with its subfolders.
        values: such as names, numbers and dates, each as it may be written.
    Returns:
        (file, value) for each that is there.
    """
    folder = Path(folder)
    values = {value: encoded(value) for value in values}
    found = []
    for path in sorted(folder.rglob("*")):
        content = str(path.relative_to(folder)).encode("utf-8", "surrogateescape")
        if path.is_file():
            content += b"\n" + _unpacked(path.read_bytes())
        content = content.lower()
        name = str(path.relative_to(folder))
        for value, forms in values.items():
            if any(form in content for form in forms):
                found.append((name, value))
    return found


def encoded(text: str) -> set[bytes]:
    """A value in lower case as a file may hold it."""
    codes = ENCODINGS if text.isascii() else ENCODINGS[:-1]
    forms = {text.lower().encode(code, "replace") for code in codes}
    latin = text.lower().encode("latin-1", "ignore")
    return forms | {latin} if len(latin) == len(text) else forms


def _unpacked(content):
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return content + gzip.decompress(content)
    except (OSError, EOFError):
        return content


def left_in(
    content: bytes, known: Known, but: Iterable[str] = (), *, shortest: int = SURE
) -> list[str]:
    """Which known values a file about to be written still holds, as whole words.

    Args:
        content: all its bytes.
        but: texts that were written on purpose, such as a moved date.
        shortest: bytes of a value that is looked for.
    """
    content = content.lower()
    spared = set(but)
    left = []
    for text in known.texts():
        long_enough = _length(text) >= shortest
        if long_enough and text not in spared and _stands(text, content):
            left.append(text)
    return left


def _stands(text, content):
    for form in encoded(text):
        if form not in content:  # the quick look first
            continue
        if re.search(rb"(?<![\w.])" + re.escape(form) + rb"(?![\w.])", content):
            return True
    return False


def day_of(text: str) -> date | None:
    """The day that a DICOM date or date with time names."""
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()
    except ValueError:
        return None


def _is_name(word):
    has_letters = any(character.isalpha() for character in word)
    return has_letters and word.lower() not in PLACEHOLDERS
