"""notebooks/src/NN_topic.py (py:percent) is edited; notebooks/NN_topic.ipynb is made
from it, without outputs.
"""

import ast
import re
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_notebook

import radwb

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
FAST = re.compile(r"^(\w+(?:, *\w+)*)\s*=[^#\n]*#.*?\bfast:\s*(.+?)\s*$", re.MULTILINE)


def checkout() -> Path:
    """The folder of this copy of the workbench: where we are, or where the package was
    installed from.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(radwb.__file__).parents[1]):
        if (folder / "notebooks" / "src").is_dir():
            return folder
    raise FileNotFoundError(
        f"expected a checkout with notebooks/src, got {here}. Try it in the folder of git clone."
    )


def sources(root: Path, names: list[str] | None = None) -> list[Path]:
    """The notebooks' sources in order; `names` picks them by number ("03") or name."""
    found = sorted((root / "notebooks" / "src").glob("[0-9][0-9]_*.py"))
    if not names:
        return found
    unknown = [
        n for n in names if not any(p.stem.startswith(Path(n).stem) for p in found)
    ]
    if unknown:
        raise ValueError(
            f"expected notebooks among {[p.stem for p in found]}, got {unknown}"
        )
    return [p for p in found if any(p.stem.startswith(Path(n).stem) for n in names)]


def target(source: Path) -> Path:
    return source.parent.parent / f"{source.stem}.ipynb"


def build(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source: ids from the cells' positions, so that a second sync is
    no diff.
    """
    parsed = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    for n, cell in enumerate(parsed.cells):
        cell.id = f"{source.stem[:2]}-{n:03d}"
        if "solution" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True}
    return new_notebook(
        cells=parsed.cells,
        metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}},
    )


def sync(root: Path | None = None, *, write: bool = True) -> list[Path]:
    """Make every notebook equal to its source.

    Args:
        root: a checkout; None = this one.
        write: False only tells.
    Returns:
        the notebooks that differed from their source.
    """
    changed = []
    for source in sources(root or checkout()):
        text, path = nbformat.writes(build(source)) + "\n", target(source)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed.append(path)
            if write:
                path.write_text(text, encoding="utf-8")
    return changed


def fast_parameters(source: str) -> str:
    """The lines that a fast run puts after the parameters: `N = 2000  # fast: 200`
    gives `N = 200`.
    """
    found = FAST.findall(source)
    for _, value in found:
        ast.literal_eval(value)
    return "\n".join(f"{name} = {value}" for name, value in found)


def put_fast_cell(nb: nbformat.NotebookNode) -> None:
    """Insert the cell of a fast run behind the one tagged `parameters`."""
    for n, cell in enumerate(nb.cells):
        if "parameters" in cell.metadata.get("tags", []):
            lines = (
                "# a fast run: smaller numbers, so the results below are worse\n"
                + fast_parameters(cell.source)
            )
            nb.cells.insert(
                n + 1,
                new_code_cell(
                    lines,
                    id=f"{cell.id}-fast",
                    metadata={"tags": ["injected-parameters"]},
                ),
            )
            return
