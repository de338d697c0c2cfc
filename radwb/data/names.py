"""Text of a file made harmless to show, and paths whose names aren't text."""

import os
import unicodedata
from pathlib import Path
from urllib.parse import unquote_to_bytes

URI = "file://"
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode's categories


def printable(text: str) -> str:
    r"""Control characters, lone surrogates and direction marks as backslash escapes.

    >>> printable("a\x1b[31m\udcff")
    'a\\x1b[31m\\udcff'
    """
    return "".join(map(_shown, text))


def _shown(character):
    if _is_unseen(character):
        return character.encode("unicode_escape").decode("ascii")
    return character


def _is_unseen(character):
    return unicodedata.category(character) in UNSEEN


def path_text(path: Path) -> str:
    r"""A path for a table; a file:// address where its name isn't plain text.

    Such an address (RFC 8089) survives CSV and JSON, and `local_path` gives the path
    back.

    >>> path_text(Path("/inbox/a.dcm")), path_text(Path("/inbox/caf\udce9.dcm"))
    ('/inbox/a.dcm', 'file:///inbox/caf%E9.dcm')
    """
    text = str(path)
    if any(map(_is_unseen, text)):
        return path.absolute().as_uri()
    return text


def local_path(path: str | os.PathLike) -> Path:
    """The path that `path_text` wrote; any other as it is."""
    text = os.fspath(path)
    if isinstance(text, str) and text.startswith(URI):
        place = text[len(URI) :].removeprefix("localhost")
        return Path(os.fsdecode(unquote_to_bytes(place)))
    return Path(path)
