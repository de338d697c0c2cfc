"""What a reader would try who wants to break in, leak or mislead.

Each stands with its test, or with where that is:
- Markup in a header, table, report, name, map, model or log: here; run by a real
    browser in browser/test_hostile.py.
- Markup, scripts, links and SVG in a notebook on its way to the gallery; a traversing
    name in tour.json: here.
- Pickled weights: test_models.test_pickled_code_is_refused.
- Zip and tar members that leave their folder, links, bombs of archives: test_catalog
    (malicious_zip, malicious_tar).
- Pictures that inflate beyond memory (JPEG 2000, deflate, NIfTI headers): test_data and
    test_geometry, by the decoder.
- A hostile model.json, state dict or tokenizer.json: test_models and test_adapters.
- Shell commands in names, formulas in CSV, file modes of runs and caches, links out of
    a run, names in errors: here.
- Two runs in one folder, damaged checkpoints, somebody's folder as OUT:
    test_run_folder.
- JupyterLab closed to the network and without its token: browser/test_lab.
"""

import json
import stat
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hostile import (
    ALL,
    MARKUP,
    OURS_IN_WIDGETS,
    PAYLOAD,
    hostile_dicom,
    raw_markup,
    strings,
)
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import radwb as rw
from radwb import cli
from radwb.attend.map import Badge, Map
from radwb.book import pages, run
from radwb.data import Scan, Volume
from radwb.show import viewers
from radwb.show.theme import LONGEST, broken, plain

MASK = np.zeros((24, 24), bool)
MASK[4:12, 4:12] = True
SCAN = Scan(
    np.random.default_rng(0).random((24, 24)).astype(np.float32),
    (1.0, 1.0),
    ALL,
    ALL,
    truth={ALL: MASK},
    source=ALL,
)
BADGE = Badge({ALL: False}, 8)
MAP = Map(MASK * 1.0, ALL, 0, None, ALL, ALL, badge=BADGE)
VALUES = pd.DataFrame(
    {"finding": [ALL, "B"], "auroc": [0.9, 0.6], "low": [0.8, 0.5], "high": [0.95, 0.7]}
)
VALUES["note"] = VALUES["group"] = ALL
AXES = dict(label=ALL, x_title=ALL, y_title=ALL)
LOG = pd.DataFrame(
    {"step": [1, 2], "epoch": [0, 0], f"loss {ALL}": [2.0, 1.0], "loss": [1.0, 2.0]}
)
WORDS = dict(title=ALL, caption=ALL)


def live_plot():
    plot = rw.show.live([ALL, "other"], batch=8)
    plot({"step": 1, "epoch": ALL, "loss": 1.0, "warning": ALL})
    return plot.figure()


def hostile_flow():
    films = pd.DataFrame({"path": ["a", "b"], "patient_id": ["1", "2"]})
    way = rw.curate.Flow(ALL, films)
    way.keep(ALL, films.head(1), why=ALL)
    return rw.show.flow(way.steps, parts=way.parts, **WORDS)


FIGURES = {
    "scan": lambda: rw.show.scan(SCAN, truth=True, **WORDS),
    "overlay": lambda: rw.show.overlay(SCAN, MAP, truth=True, label=ALL, caption=ALL),
    "overlay's own title": lambda: rw.show.overlay(SCAN, MAP, title=ALL),
    "grid": lambda: rw.show.grid(
        [SCAN, SCAN], titles=[ALL, "b"], maps=[MAP, None], truth=True, **WORDS
    ),
    "planes": lambda: rw.show.planes(
        Volume(np.zeros((6, 8, 8), np.float32), np.eye(4), ALL, ALL), title=ALL
    ),
    "forest": lambda: rw.show.forest(
        {ALL: VALUES}, points={ALL: VALUES}, x_title=ALL, **WORDS
    ),
    "bars": lambda: rw.show.bars(
        VALUES, x="finding", y="auroc", group="group", y_title=ALL, **WORDS
    ),
    "bars, column": lambda: rw.show.bars(
        VALUES.rename(columns={"auroc": ALL}), x="finding", y=ALL
    ),
    "heatmap": lambda: rw.show.heatmap(
        pd.DataFrame([[1, 2]], [ALL], [ALL, "b"]), **AXES, **WORDS
    ),
    "hist": lambda: rw.show.hist({ALL: [1, 2, 3]}, x_title=ALL, **WORDS),
    "scatter": lambda: rw.show.scatter(
        np.eye(2), colour=[ALL, "b"], hover=[ALL, ALL], **AXES, **WORDS
    ),
    "scatter, numbers": lambda: rw.show.scatter(
        np.random.rand(9, 2), colour=np.arange(9), label=ALL
    ),
    "curve": lambda: rw.show.curve(
        LOG, panels={ALL: ["loss", f"loss {ALL}"]}, lines={ALL: 1.0}, **WORDS
    ),
    "live": live_plot,
    "flow": hostile_flow,
    "volume": lambda: hostile_view().figure,
}


def hostile_view(**more):
    voxels = np.random.default_rng(0).random((6, 8, 8)).astype(np.float32)
    m = Map(voxels, ALL, 0, None, ALL, ALL, np.eye(4), badge=BADGE)
    return rw.show.volume(Volume(voxels, np.eye(4), ALL, ALL), m, title=ALL, **more)


@pytest.mark.parametrize("kind", FIGURES)
def test_words_of_others_are_letters_in_every_figure(kind):
    figure = FIGURES[kind]()
    assert raw_markup(figure) == []
    whole = figure.to_json()
    assert "&lt;img" in whole  # they are shown, not lost


def test_every_public_figure_is_among_them():
    # by tests of their own: below, and in browser/test_review_widget.py and
    # test_cases_widget.py
    others = {"explore", "volume", "review", "cases", "reading_study"}
    assert set(rw.show.__all__) - others <= set(FIGURES)


@pytest.fixture
def in_a_notebook(monkeypatch):
    pytest.importorskip("ipyniivue")
    reasons = {"ipyniivue": ""}
    monkeypatch.setattr(viewers, "missing", lambda name: reasons.get(name, "no"))


def test_words_of_others_are_letters_in_the_volume_widget(in_a_notebook):
    text = hostile_view(viewer="ipyniivue").widget.children[0].value
    assert "&lt;img src=x" in text
    assert "<" not in OURS_IN_WIDGETS.sub("", text)


def test_a_series_whose_header_holds_a_script_is_shown_as_letters(
    in_a_notebook, tmp_path
):
    scan = rw.data.read(hostile_dicom(tmp_path / "series"))
    view = rw.show.volume(scan, viewer="ipyniivue")
    assert "<img" not in view.widget.children[0].value
    assert raw_markup(view.figure) == []


@pytest.mark.parametrize("room", ["explore", "show"])
def test_our_scripts_make_text_and_never_html(room):
    scripts = (Path(rw.__file__).parent / room).rglob("*.js")
    code = "".join(path.read_text("utf-8") for path in scripts)
    assert "createElement" in code
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
    ):
        assert way not in code


def test_plain_is_whole_short_and_safe_in_an_attribute_and_in_plotly():
    assert plain("a < b & c") == "a &lt; b &amp; c"
    assert not set("<>\"'$") & set(plain(f"{ALL} $\\href{{javascript:1}}{{x}}$ %{{x}}"))
    assert "%{" not in plain("%{customdata}")
    assert (
        plain("a\x1b[31m\u202eb\nc") == "a [31m b c"
    )  # no terminal codes, no turned direction
    assert plain("x" * 10**6) == "x" * LONGEST + " ..."
    assert broken("a<br>b\nc<i>") == "a<br>b<br>c&lt;i&gt;"


# the gallery


@pytest.mark.parametrize("kind", ["text/html", "text/markdown"])
@pytest.mark.parametrize("markup", MARKUP)
def test_an_output_keeps_no_script_handler_or_link_to_one(kind, markup):
    page = pages.output_html(new_output("display_data", {kind: markup}))
    for bad in ("onerror", "<script", "javascript:"):
        assert bad not in page.replace("&lt;script", "")


def test_a_table_in_an_output_stays_a_table():
    table = pd.DataFrame({PAYLOAD: [PAYLOAD]})
    page = pages.output_html(new_output("display_data", {"text/html": table.to_html()}))
    assert page.count("<td") == 1
    assert "<img" not in page
    styled = table.style.hide(axis="index").to_html()
    page = pages.output_html(new_output("display_data", {"text/html": styled}))
    assert "onerror" not in page


def test_a_tables_own_look_stays_and_no_other():
    styled = (
        pd.DataFrame({"a": ["b"]})
        .style.set_properties(**{"text-align": "left"})
        .to_html()
    )
    assert "text-align: left" in pages.clean_html(styled)
    for css in (
        ".legal {display: none}",
        "#T_a, .legal {color: red}",
        "#T_a {background: url(http://x)}",
        "@import 'x'",
    ):
        assert "style" not in pages.clean_html(
            f'<style type="text/css">{css}</style><p>a</p>'
        )


def test_a_drawing_is_a_picture_and_a_picture_ends_no_attribute():
    svg = pages.output_html(
        new_output("display_data", {"image/svg+xml": "<svg onload='a()'/>"})
    )
    assert svg.startswith("<img")
    assert "onload" not in svg
    assert '" onerror' not in pages.output_html(
        new_output("display_data", {"image/png": 'x" onerror="a()'})
    )


def test_a_page_runs_no_script_but_its_own(tmp_path):
    figure = json.loads(FIGURES["scan"]().to_json())
    figure["layout"]["title"] = {
        "text": "</script><script>document.title=1</script>"
    }  # not made by radwb
    cell = new_code_cell(
        PAYLOAD, outputs=[new_output("display_data", {pages.PLOTLY: figure})]
    )
    cell.outputs += [
        new_output("error", ename=PAYLOAD, evalue=PAYLOAD, traceback=[PAYLOAD])
    ]
    cell.outputs += [new_output("display_data", {pages.MIME: [[PAYLOAD, PAYLOAD]]})]
    nb = new_notebook(cells=[new_markdown_cell(f"# {PAYLOAD}\n\n{ALL}"), cell])
    pages.write_page(nb, tmp_path / "a.html", title=PAYLOAD)
    page = (tmp_path / "a.html").read_text()
    policy = page.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert f"script-src 'nonce-{pages.NONCE}'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert page.count("<script") == page.count(f'<script nonce="{pages.NONCE}"')
    assert "<img src=x" not in page


def built(tmp_path, name):
    note = run.Result(name, PAYLOAD, PAYLOAD, 1, 0.1, 0.5, PAYLOAD, {PAYLOAD: PAYLOAD})
    (tmp_path / "executed").mkdir()
    nb = new_notebook(cells=[new_markdown_cell("# a")])
    nbformat.write(nb, tmp_path / "executed" / "00_a.ipynb")
    tour = run.summary([note], fast=False, planned=1)
    (tmp_path / "tour.json").write_text(json.dumps(tour))
    return tmp_path


def test_the_front_page_shows_a_hostile_tour_as_letters(tmp_path):
    index = run.gallery(built(tmp_path, "00_a")).read_text()
    assert "<img src=x" not in index
    assert "&lt;img src=x" in index


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a/b", "a\\b", "..", "", '0" onclick="a()', "."]
)
def test_a_tour_writes_no_page_outside_of_its_gallery(tmp_path, name):
    with pytest.raises(ValueError, match="name of a notebook in tour.json"):
        run.gallery(built(tmp_path, name))
    assert not list(tmp_path.rglob("*.html"))


def test_a_notebook_is_run_by_its_name_alone(tmp_path):
    from radwb.book.sync import checkout, sources

    (tmp_path / "evil.py").write_text("raise SystemExit")
    for name in (str(tmp_path / "evil.py"), "../evil", "; touch evil", "$(id)"):
        with pytest.raises(ValueError, match="expected notebooks among"):
            sources(checkout(), [name])


# the shell, spreadsheets, and who may read


def test_no_name_reaches_a_shell():
    package = Path(rw.__file__).parent
    for path in package.rglob("*.py"):
        code = path.read_text()
        for way in ("shell=True", "os.system(", "os.popen(", "pickle.load"):
            assert way not in code, (path, way)


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "@SUM(1)", "+cmd|x", "-2+3+cmd|x", "\t=1"]
)
def test_a_header_is_no_formula_in_a_written_table(tmp_path, text):
    cli.write(
        pd.DataFrame({"modality": [text], "patient_id": ["-12"], "label": [-1.0]}),
        tmp_path / "a.csv",
    )
    back = pd.read_csv(tmp_path / "a.csv", dtype=str).iloc[0]
    assert back["modality"] == "'" + text
    assert back["patient_id"] == "-12"
    assert back["label"] == "-1.0"


def open_to_others(path) -> int:
    return stat.S_IMODE(path.stat().st_mode) & 0o077


def test_the_cache_is_its_owners_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    rw.simulate.cohort(n=2, seed=0, size=32)
    folders = [path for path in (tmp_path / "cache").rglob("*") if path.is_dir()]
    outer = [tmp_path / "cache", *(tmp_path / "cache").iterdir()]
    assert folders
    assert any(open_to_others(path) == 0 for path in outer)
    for path in (p for p in folders if any(c.is_file() for c in p.iterdir())):
        assert any(
            open_to_others(p) == 0
            for p in (path, *path.parents)
            if tmp_path in p.parents
        ), path


def test_lab_says_that_notebooks_hold_pixels_and_writes_for_the_owner_alone(
    monkeypatch, capsys
):
    from radwb.book import lab

    calls = []
    monkeypatch.setattr(lab.subprocess, "call", lambda *a, **k: calls.append(k) or 0)
    lab.open_lab(port=1, browser=False)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "hold the pixels" in printed
    assert calls[0]["umask"] == 0o077


def test_strings_sees_keys_and_values():
    assert set(strings({"a": ["b", {"c": 1}]})) == {"a", "b", "c"}
