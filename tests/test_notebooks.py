"""Notebooks keep the anatomy that readers rely on; the tests run them.

Those beyond the tour run here in their fast form, all of them in the slow test.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest

import radwb as rw
from radwb.book import pages, run, sync

ROOT = Path(__file__).parents[1]
SOURCES = sync.sources(ROOT)
EACH = pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)


def code_cells(nb):
    return [c for c in nb.cells if c.cell_type == "code"]


def tagged(nb, tag):
    return [c for c in code_cells(nb) if tag in c.metadata.get("tags", [])]


def functions(cell):
    """Whether each function that a cell defines is a stub, by name."""
    is_stub = {}
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.FunctionDef):
            is_stub[node.name] = "NotImplementedError" in ast.unparse(node)
    return is_stub


def test_the_core_notebooks_are_there():
    assert [p.stem[:2] for p in SOURCES][:6] == ["00", "01", "02", "03", "04", "05"]


@EACH
def test_notebook_and_source_are_in_step(source):
    notebook = sync.target(source).read_text(encoding="utf-8")
    built = nbformat.writes(sync.build(source)) + "\n"
    assert notebook == built, "run `radwb book sync`"


@EACH
def test_notebooks_are_committed_without_outputs(source):
    nb = nbformat.read(sync.target(source), as_version=4)
    assert not any(c.outputs or c.execution_count for c in code_cells(nb))
    nbformat.validate(nb)


@EACH
def test_the_first_cell_says_what_for_and_what_not_for(source):
    first = sync.build(source).cells[0]
    assert first.cell_type == "markdown"
    assert "not for clinical use" in first.source.lower()
    assert "you will" in first.source.lower().replace("*", "")
    title, question = pages.opening(sync.build(source))
    assert title.startswith(f"{int(source.stem[:2])} ")
    assert "?" in title + question


@EACH
def test_parameters_are_plain_numbers_and_a_fast_run_is_no_branch(source):
    nb = sync.build(source)
    (cell,) = tagged(nb, "parameters")
    values = [ast.literal_eval(node.value) for node in ast.parse(cell.source).body]
    assert values
    sync.fast_parameters(cell.source)
    assert not any(
        re.search(r"\bif\b.*\bfast\b", c.source, re.IGNORECASE) for c in code_cells(nb)
    )


@EACH
def test_code_cells_fit_on_a_slide(source):
    too_long = {}
    for cell in code_cells(sync.build(source)):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        solution = "solution" in cell.metadata.get("tags", [])
        if len(lines) > 12 and not solution:
            too_long[cell.id] = len(lines)
    assert too_long == {}


@EACH
def test_every_exercise_has_a_solution_and_a_check_of_both(source):
    cells = code_cells(sync.build(source))
    stubs = []
    for n, cell in enumerate(cells):
        stubs += [(n, name) for name, is_stub in functions(cell).items() if is_stub]
    assert stubs, "an exercise is missing"
    for n, name in stubs:
        solution = cells[n + 1]
        tags = solution.metadata.get("tags", [])
        assert "solution" in tags, f"{name} has no solution behind it"
        solved = [f for f, is_stub in functions(solution).items() if not is_stub]
        solved = [f for f in solved if f.startswith(name.split("_")[0])]
        assert len(solved) == 1
        check = "\n".join(c.source for c in cells[n + 2 : n + 4])
        assert "rw.check." in check
        for written in (name, *solved):
            assert re.search(rf"\b{written}\b", check), f"{written} is never checked"


@EACH
def test_notebooks_are_quiet_about_machinery(source):
    text = source.read_text(encoding="utf-8")
    for machinery in (
        "%%capture",
        "!pip",
        "google.colab",
        "import *",
        "sys.path",
        "torch.load",
        "plotly.io",
    ):
        assert machinery not in text, machinery


@EACH
def test_words_need_no_formula_renderer(source):
    for cell in sync.build(source).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\$[^$\n]+\$|\\\(|\\\[|\$\$", cell.source), cell.id
            assert not re.search(
                r"!\[[^\]]*\]\(https?:|<img|<script|<iframe", cell.source
            ), cell.id


@EACH
def test_the_last_section_says_where_it_breaks(source):
    words = [c.source for c in sync.build(source).cells if c.cell_type == "markdown"]
    assert any("where it breaks" in w.lower() for w in words[-2:])


@pytest.mark.parametrize(
    ("number", "needed"),
    [
        ("06", "astra-ct"),
        ("07", "smollm2"),
        ("08", "kermany-16"),
        ("09", "kermany-xception"),
    ],
)
def test_a_further_notebook_runs_fast(number, needed, tmp_path):
    try:
        rw.data.fetch(needed)
    except rw.data.FetchError as error:
        pytest.skip(f"{needed} can't be had: {error}")
    sources = [source for source in SOURCES if source.stem.startswith(number)]
    (result,) = run.run(sources, tmp_path / "build", fast=True)
    assert result.error == ""
    assert result.headline


@pytest.mark.slow
def test_all_notebooks_run_fast(tmp_path):
    results = run.run(SOURCES, tmp_path / "build", fast=True)
    assert [(r.name, r.error) for r in results] == [(p.stem, "") for p in SOURCES]
    assert (tmp_path / "build" / "gallery" / "index.html").exists()
