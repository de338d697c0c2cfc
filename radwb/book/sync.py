"""notebooks/src/NN_topic.py (py:percent) is edited.

notebooks/NN_topic.ipynb is made from it, without outputs.
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
FAST_NOTE = "# a fast run: smaller numbers, so the results below are worse"


def checkout():
    """The folder of this copy of the workbench.

    Where we are, or where the package was installed from.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(radwb.__file__).parents[1]):
        if (folder / "notebooks" / "src").is_dir():
            return folder
    raise FileNotFoundError(
        f"expected a checkout with notebooks/src, got {here}. "
        "Try it in the folder of git clone."
    )


def sources(root, names=()):
    """The notebooks' sources in order; `names` picks them by number ("03") or name."""
    every = sorted((root / "notebooks" / "src").glob("[0-9][0-9]_*.py"))
    if not names:
        return every
    stems = [path.stem for path in every]
    starts = [Path(name).stem for name in names]
    unknown = [s for s in starts if not any(stem.startswith(s) for stem in stems)]
    if unknown:
        raise ValueError(f"expected notebooks among {stems}, got {unknown}")
    return [path for path in every if path.stem.startswith(tuple(starts))]


def target(source):
    return source.parent.parent / f"{source.stem}.ipynb"


def build(source):
    """The notebook of a source.

    Ids come from the cells' positions, so that a second sync is no diff.
    """
    parsed = jupytext.reads(source.read_text("utf-8"), fmt="py:percent")
    for n, cell in enumerate(parsed.cells):
        cell.id = f"{source.stem[:2]}-{n:03d}"
        if "solution" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True}
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return new_notebook(cells=parsed.cells, metadata=metadata)


def sync(root=None, *, write=True):
    """Make every notebook equal to its source.

    Args:
        root: a checkout; None = this one.
        write: False only tells.
    Returns:
        the notebooks that differed from their source.
    """
    changed = []
    for source in sources(root or checkout()):
        text = nbformat.writes(build(source)) + "\n"
        path = target(source)
        if not path.exists() or path.read_text("utf-8") != text:
            changed.append(path)
            if write:
                path.write_text(text, "utf-8")
    return changed


def fast_parameters(source):
    """The lines that a fast run puts after the parameters.

    >>> fast_parameters("N = 2000  # fast: 200")
    'N = 200'
    """
    pairs = FAST.findall(source)
    for _, value in pairs:
        ast.literal_eval(value)
    return "\n".join(f"{name} = {value}" for name, value in pairs)


def put_fast_cell(nb):
    """Insert the cell of a fast run behind the one tagged `parameters`."""
    for n, cell in enumerate(nb.cells):
        if "parameters" in cell.metadata.get("tags", []):
            lines = f"{FAST_NOTE}\n{fast_parameters(cell.source)}"
            metadata = {"tags": ["injected-parameters"]}
            fast = new_code_cell(lines, id=f"{cell.id}-fast", metadata=metadata)
            nb.cells.insert(n + 1, fast)
            return
