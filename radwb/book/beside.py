"""Pages of a notebook, such as an evidence card, that the gallery keeps with it."""

import html
import re
import sys
from pathlib import Path

MIME = "application/vnd.radwb.beside+json"
# never one of the gallery's own pages, which are index.html and 05_failure_modes.html
NAME = re.compile(r"(?!index\.)[a-z][\w-]*\.(?:html|json|xml)")
WALL = "default-src 'none'"  # of a page's policy: it fetches nothing


def beside(path: str | Path, words: str) -> None:
    """Show a link to a page that you saved; the gallery keeps a copy beside its own.

    >>> Path("card.html").write_text("<h1>A card</h1>")
    15
    >>> rw.book.beside("card.html", "The card")
    The card: card.html

    Args:
        path: an HTML page with a policy that lets it fetch nothing; JSON and XML of the
            same name go with it.
        words: what the link says.
    Raises:
        FileNotFoundError: there is no such page.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"expected a page at {path}, got no file. Try to save it first"
        )
    family = [path, path.with_suffix(".json"), path.with_suffix(".xml")]
    files = {file.name: file.read_text("utf-8") for file in family if file.exists()}
    line = f"{words}: {path}"
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(line)
        return
    link = f'<a href="{html.escape(path.as_posix())}">{html.escape(words)}</a>'
    about = {"words": words, "page": path.name, "files": files}
    shown = {MIME: about, "text/html": link, "text/plain": line}
    ipython.display.display(shown, raw=True)


def write_beside(nb, folder: Path) -> None:
    """Write what the cells of an executed notebook put beside its page.

    Raises:
        ValueError: a name that could be another page's, or a page that may fetch.
    """
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            about = output.get("data", {}).get(MIME, {})
            for name, text in about.get("files", {}).items():
                is_walled = not name.endswith(".html") or WALL in text
                if not NAME.fullmatch(name) or not is_walled:
                    raise ValueError(
                        "expected a name such as card.html and a page with the policy "
                        f"{WALL}, got {name!r}"
                    )
                (folder / name).write_text(text, "utf-8")
