"""A source becomes the same notebook each time, and a run keeps what it showed.

Pages need nothing but themselves.
"""

import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_output

import radwb as rw
from radwb import cli
from radwb.book import pages, run, sync
from radwb.book import thumbnails as pictures
from radwb.book.beside import MIME, write_beside

GOOD = """# %% [markdown]
# # 0 · A mini notebook
#
# Does a page hold what a cell showed?
#
# *Not for clinical use.*

# %%
import numpy as np
import radwb as rw

# %% tags=["parameters"]
n = 3000  # rows; fast: 30
rate = 0.5

# %%
rw.show.scan(np.random.default_rng(0).random((20, 30)), title="A scan")

# %% tags=["headline"]
import pandas as pd
row = {"finding": "x", "auroc": 0.7, "low": 0.6, "high": 0.8}
rw.show.forest({"a": pd.DataFrame([row])})

# %% tags=["solution"]
answer = 42

# %%
from pathlib import Path
card = Path("card-mini.html")
card.write_text("<!-- default-src 'none' --><h1>A card</h1>")
card.with_suffix(".json").write_text("{}")
rw.book.beside(card, "The <card>")

# %%
from tqdm.auto import tqdm
for _ in tqdm(range(3)):
    pass
rw.book.headline(rows=n, share=np.float32(0.25), who="radwb")
"""
BAD = """# %% [markdown]
# # 1 · A broken one
#
# What is left when a cell stops?

# %%
print("reached")

# %%
int("four")

# %%
print("never reached")
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    source = tmp_path / "notebooks" / "src"
    source.mkdir(parents=True)
    (source / "00_mini.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A fast run of a good and a broken notebook, with no browser for thumbnails."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "notebooks" / "src").mkdir(parents=True)
    for name, text in (("00_mini", GOOD), ("01_broken", BAD), ("02_unreached", BAD)):
        (root / "notebooks" / "src" / f"{name}.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures.shutil, "which", lambda name: None)
        patch.delenv("BROWSER_PATH", raising=False)
        results = run.run(sync.sources(root), root / "build", fast=True)
    return root / "build", results


def test_a_second_sync_is_no_diff(checkout):
    notebook = checkout / "notebooks" / "00_mini.ipynb"
    assert sync.sync() == [notebook]
    first = notebook.read_bytes()
    assert sync.sync() == []
    notebook.unlink()
    sync.sync()
    assert notebook.read_bytes() == first


def test_a_notebook_out_of_step_is_told_and_not_touched(checkout, capsys):
    cli.main(["book", "sync"])
    notebook = checkout / "notebooks" / "00_mini.ipynb"
    notebook.write_text(notebook.read_text().replace("3000", "30"))
    assert cli.main(["book", "sync", "--check"]) == 1
    assert "out of step: notebooks/00_mini.ipynb" in capsys.readouterr().out
    assert "3000" not in notebook.read_text()


def test_ids_come_from_positions_and_solutions_are_folded(checkout):
    nb = sync.build(checkout / "notebooks" / "src" / "00_mini.py")
    assert [c.id for c in nb.cells] == [f"00-{n:03d}" for n in range(8)]
    assert [
        c.id for c in nb.cells if c.metadata.get("jupyter", {}).get("source_hidden")
    ] == ["00-005"]
    assert not any(c.get("outputs") for c in nb.cells)
    nbformat.validate(nb)


def test_no_checkout_is_one_clear_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rw, "__file__", str(tmp_path / "radwb" / "__init__.py"))
    with pytest.raises(
        FileNotFoundError, match="expected a checkout with notebooks/src"
    ):
        sync.checkout()


def test_a_fast_run_takes_its_numbers_from_the_parameters():
    lines = [
        "n = 2400  # rows; fast: 240",
        "rate = 0.5",
        "d = (1, 2)  # fast: (1,)",
        "a, b = 2, 4  # passes; fast: 1, 1",
    ]
    cell = "\n".join(lines)
    assert sync.fast_parameters(cell) == "n = 240\nd = (1,)\na, b = 1, 1"
    with pytest.raises(ValueError, match="malformed"):
        sync.fast_parameters("n = 2400  # fast: open('x')")


def test_an_unknown_notebook_is_refused(checkout):
    assert [p.stem for p in sync.sources(checkout, ["00"])] == ["00_mini"]
    with pytest.raises(ValueError, match="07"):
        sync.sources(checkout, ["07"])


def test_the_run_says_what_each_notebook_took_and_found(ran):
    out, (mini, broken) = ran
    tour = json.loads((out / "tour.json").read_text())
    assert tour["notebooks"][0]["headline"] == {
        "rows": 30,
        "share": 0.25,
        "who": "radwb",
    }
    assert mini.title == "0 · A mini notebook"
    assert mini.question == "Does a page hold what a cell showed?"
    assert 0 < mini.peak_gib < 4
    assert 0 < mini.minutes < 5
    assert tour["fast"]
    assert tour["versions"]["radwb"] == rw.__version__


def test_a_page_of_a_notebook_stands_beside_the_gallerys(ran):
    out, _ = ran
    gallery = out / "gallery"
    assert "<h1>A card</h1>" in (gallery / "card-mini.html").read_text()
    assert (gallery / "card-mini.json").read_text() == "{}"
    page = (gallery / "00_mini.html").read_text()
    assert '<a href="card-mini.html">The &lt;card&gt;</a>' in page


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.html", "default-src 'none'"),
        ("05_failure_modes.html", "default-src 'none'"),
        ("../card.html", "default-src 'none'"),
        ("card.js", ""),
        ("card.html", "<script>fetch('//elsewhere')</script>"),
    ],
)
def test_a_page_that_is_no_neighbour_is_refused(name, text, tmp_path):
    shown = {MIME: {"words": "x", "page": name, "files": {name: text}}}
    cell = nbformat.v4.new_code_cell(outputs=[new_output("display_data", shown)])
    nb = nbformat.v4.new_notebook(cells=[cell])
    with pytest.raises(ValueError, match="default-src 'none'"):
        write_beside(nb, tmp_path)


def test_a_page_that_was_not_saved_is_one_clear_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="Try to save it first"):
        rw.book.beside(tmp_path / "card.html", "The card")


def test_an_error_stops_the_run_and_is_shown(ran):
    out, results = ran
    assert [r.name for r in results] == ["00_mini", "01_broken"]
    assert "ValueError: invalid literal for int()" in results[1].error
    assert 'int("four")' in results[1].error
    assert not json.loads((out / "tour.json").read_text())["ok"]
    page = (out / "gallery" / "01_broken.html").read_text()
    assert "reached" in page
    assert "invalid literal" in page
    assert not (out / "gallery" / "02_unreached.html").exists()


def test_a_failed_tour_has_exit_status_one(ran, monkeypatch, capsys):
    out, results = ran
    monkeypatch.setattr(run, "run", lambda *_, **__: results)
    assert cli.main(["book", "run", "--out", str(out), "00"]) == 1
    assert "01_broken stopped in cell 01-002" in capsys.readouterr().err


def test_a_page_needs_nothing_but_itself(ran):
    out, _ = ran
    for page in (out / "gallery").glob("*.html"):
        markup = re.sub(
            r"<script\b[^>]*>.*?</script>", "", page.read_text(), flags=re.DOTALL
        )
        assert not re.findall(r'(?:src|<link[^>]* href)="(?!data:)[^"]+"', markup), (
            page.name
        )
        assert "require" not in markup
    mini = (out / "gallery" / "00_mini.html").read_text()
    assert mini.count("plotly.js v") == 1
    assert (
        mini.count("Plotly.newPlot(")
        - mini[: mini.index("</style>")].count("Plotly.newPlot(")
        >= 2
    )
    assert "plotly.js v" not in (out / "gallery" / "01_broken.html").read_text()


def test_a_page_shows_figures_numbers_and_folded_solutions_but_no_bars(ran):
    page = (ran[0] / "gallery" / "00_mini.html").read_text()
    assert page.count('class="plotly-graph-div"') == 2
    assert "share <b>0.25</b>" in page
    assert "<summary>Solution</summary>" in page
    assert "widget" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"\d+%\|", page[page.index("</style>") :])


def test_executed_notebooks_hold_no_copy_of_plotly(ran):
    assert (ran[0] / "executed" / "00_mini.ipynb").stat().st_size < 100_000


def test_the_front_page_tells_all_of_it(ran):
    index = (ran[0] / "gallery" / "index.html").read_text()
    assert "Not for clinical use" in index
    assert 'href="00_mini.html"' in index
    assert "Does a page hold what a cell showed?" in index
    assert "Stopped in cell 01-002" in index
    assert "don't quote" in index


def test_without_a_browser_a_thumbnail_is_the_scan_inside_the_figure(monkeypatch):
    monkeypatch.setattr(pictures.shutil, "which", lambda name: None)
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    figure = rw.show.scan(np.eye(4, dtype=np.float32)).to_plotly_json()
    assert pictures.thumbnails({"a": figure, "b": None}) == {
        "a": figure["data"][0]["source"]
    }


def test_a_broken_browser_costs_the_pictures_only(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-browser"))
    monkeypatch.setattr(
        pictures, "draw", lambda *_: (_ for _ in ()).throw(RuntimeError("won't start"))
    )
    figure = rw.show.scan(np.eye(4, dtype=np.float32)).to_plotly_json()
    assert list(pictures.thumbnails({"a": figure})) == ["a"]
    assert "won't start" in capsys.readouterr().out


def test_the_figure_of_the_cell_tagged_headline_is_the_thumbnail(ran):
    nb = nbformat.read(ran[0] / "executed" / "00_mini.ipynb", as_version=4)
    assert pages.headline_figure(nb)["data"][0]["type"] == "scatter"
    assert len(pages.figures_of(nb)) == 2


def test_text_bars_are_dropped_and_words_kept():
    stream = new_output(
        "stream",
        name="stderr",
        text="reading:  50%|###  | 1/2\rreading: 100%|#####| 2/2\na warning\n",
    )
    assert pages.output_html(stream) == '<pre class="stderr">a warning</pre>'
    assert (
        pages.output_html(new_output("stream", name="stderr", text=" 3%|#   | 1/30\r"))
        == ""
    )


def test_a_headline_is_printed_outside_a_notebook(capsys):
    rw.book.headline(mean_auroc=np.float32(0.875), n=np.int64(1200), ok=True, who="A")
    assert (
        capsys.readouterr().out
        == "mean auroc: 0.875    n: 1,200    ok: True    who: A\n"
    )


def test_pages_can_be_made_anew_from_what_was_executed(ran, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(pages, "thumbnails", lambda figures: {})
    shutil.copytree(ran[0], tmp_path / "build")
    shutil.rmtree(tmp_path / "build" / "gallery")
    assert run.gallery(tmp_path / "build").exists()
    assert (tmp_path / "build" / "gallery" / "00_mini.html").exists()
    with pytest.raises(FileNotFoundError, match="expected tour.json"):
        run.gallery(tmp_path / "elsewhere")


def test_a_widget_is_its_still_on_a_page_and_nothing_where_it_has_none():
    view = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "text/plain": "Explorer(...)",
    }
    still = nbformat.v4.new_output("display_data", view | {"image/png": "iVBORw0KGgo="})
    assert pages.output_html(still).startswith(
        '<img alt="figure" src="data:image/png;base64,iVBORw0KGgo="'
    )
    assert pages.output_html(nbformat.v4.new_output("display_data", view)) == ""


def test_a_reference_of_the_package_is_linked_from_the_front_page(ran, tmp_path):
    tour = json.loads((ran[0] / "tour.json").read_text())
    link = 'href="api/index.html"'
    assert link not in pages.write_index(tour, {}, tmp_path).read_text()
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "index.html").touch()
    assert link in pages.write_index(tour, {}, tmp_path).read_text()


def test_the_page_paints_no_class_of_a_styled_table():
    table = pd.DataFrame({"a": [1.0]}, index=pd.Index(["x"], name="row")).style
    names = re.findall(r'class="([^"]+)"', table.to_html())
    classes = {name for group in names for name in group.split()}
    assert "blank" in classes
    assert classes.isdisjoint(re.findall(r"\.([A-Za-z][\w-]*)", pages.STYLESHEET))
