"""What an exported page carries of the explorer, and what it lets through."""

import base64
import io
import re

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image
from tables import effusion_table

import radwb as rw
from radwb.book import pages
from radwb.explore import exported

ALLOWED = re.compile(r"[\w+/=., ()-]*", re.ASCII)


@pytest.fixture(scope="module")
def widget():
    model = rw.models.load("radwb-tiny")
    widget = rw.show.explore(model, effusion_table(), finding="Pleural Effusion")
    yield widget
    widget.close()


def picture(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_a_picture_carries_each_heads_map(widget):
    marks = exported.heads_on_page(widget.cases, widget.views, widget.look)
    layers, columns, rows, cols = map(int, marks["shape"].split())
    sprite = picture(marks["heads"])
    assert sprite.shape == (layers * rows, columns * cols)
    choice = exported.Choice("radwb-tiny", "attention", layer=2, head=1)
    head = widget.cases.grid(0, choice)
    part = sprite[2 * rows : 3 * rows, 2 * cols : 3 * cols]  # the mean is first
    np.testing.assert_array_equal(part, np.round(255 * head / head.max()))
    assert all(ALLOWED.fullmatch(value) for value in marks.values())


def test_it_carries_what_was_chosen_last(widget):
    widget.choose(layer=1, head=2, patch=[9, 10], direction="to")
    widget.wait()
    marks = exported.heads_on_page(widget.cases, widget.views, widget.look)
    assert marks["chosen"] == "1 2"
    assert marks["what"] == "what attends to 2 patches"
    widget.choose(method="relevance")
    widget.wait()
    marks = exported.heads_on_page(widget.cases, widget.views, widget.look)
    assert marks["chosen"] == "3 -1"  # the last layer's mean
    assert marks["what"] == "what the read-out takes from each patch"


def test_the_maps_of_many_heads_stay_small():
    maps = np.random.default_rng(0).integers(0, 256, (24, 17, 23, 24), np.uint8)
    thin = exported.thinned(maps)
    assert thin.shape == (24, 17, 12, 12)
    assert len(exported.encoded(exported.as_picture(thin))) <= exported.MOST
    corner = maps[3, 4, :2, :2].mean()
    assert abs(float(thin[3, 4, 0, 0]) - corner) <= 0.5
    few = maps[:2, :4, :8, :8]
    assert exported.thinned(few) is few


def test_a_whole_picture_stays_below_300_kb():
    noise = np.random.default_rng(0).random((600, 600), np.float32)
    maps = np.random.default_rng(1).integers(0, 256, (24, 17, 24, 24), np.uint8)
    sprite = exported.encoded(exported.as_picture(exported.thinned(maps)))
    film = exported.blend(noise, None, 0).convert("L").resize((480, 480))
    film = exported.encoded(film, "JPEG", **exported.JPEG)
    assert len(exported.in_text(film)) + len(exported.in_text(sprite)) < 300_000


def page_of(html, tmp_path):
    cell = new_code_cell("w")
    cell.outputs = [new_output("display_data", {"text/html": html})]
    pages.write_page(new_notebook(cells=[cell]), tmp_path / "a.html", title="a")
    return (tmp_path / "a.html").read_text()


def test_the_gallery_runs_our_script_and_none_of_the_notebook(widget, tmp_path):
    html = widget.stand_in.html()
    assert exported.SCRIPT in html
    page = page_of(html, tmp_path)
    scripts = re.findall(r"<script[^>]*>", page)
    assert scripts == [f'<script nonce="{pages.NONCE}">']
    assert page.count(exported.SCRIPT) == 1
    assert "data-heads=" in page
    assert exported.SCRIPT not in page_of("<p>no widget</p>", tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<script>", "<script>pwned()</script><script>"),
        (' data-what="', ' onload="pwned()" data-what="'),
        (' data-what="', ' data-what="&lt;img onerror=pwned()&gt;'),
        (' data-heads="', ' data-heads="javascript:pwned()'),
        (' data-film="', ' data-pwned="" data-film="'),
    ],
)
def test_nothing_else_comes_with_a_picture(widget, tmp_path, before, after):
    html = widget.stand_in.html()
    assert before in html
    assert "pwned" not in page_of(html.replace(before, after, 1), tmp_path)
