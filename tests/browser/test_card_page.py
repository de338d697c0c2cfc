"""An evidence card in Chromium: it fits, is legible in both themes, fetches nothing."""

from dataclasses import replace

import numpy as np
import pytest
from axe import findings
from hostile import ALL

import radwb as rw
from radwb.fail.evidence import VERDICTS, Evidence

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A card with a row of each verdict, a long one, a hostile one, and a figure."""
    import plotly.graph_objects as go

    table = rw.simulate.cohort(n=240, seed=0)
    about = ("AUROC", 0.7, 0.6, 0.8, 90, "patients")
    rows = [Evidence("group", v, *about, v, f"{v}: {ALL}") for v in VERDICTS]
    rows[0] = replace(rows[0], figure=go.Figure(go.Bar(y=[1, 2])), control=0.5)
    rows.append(replace(rows[0], tried="word" * 40, sentence="x" * 300, figure=None))
    rows.append(replace(rows[0], measure="share", low=np.nan, figure=None))
    card = rw.card.evidence_card(rw.models.load("radwb-tiny"), table, evidence=rows)
    return card.save(tmp_path_factory.mktemp("card") / "card.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_card_is_legible_and_fits(page, path, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path.as_uri())
    assert page.outside == []
    assert page.errors == []
    assert "pwned" not in page.title()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.locator("svg[role=img]").first.bounding_box()
    assert drawn["width"] > 80
    figure = page.locator("td img").first
    assert figure.evaluate("image => image.naturalWidth") == 640


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, path, scheme):
    page.emulate_media(color_scheme=scheme)
    # the policy of the page lets no script run, axe's neither
    text = path.read_text("utf-8").replace("default-src 'none';", "")
    page.set_content(text)
    assert findings(page, "body") == []


def test_it_prints_with_all_its_sections(page, path):
    page.goto(path.as_uri())
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator("#untested").is_visible()
    assert len(page.pdf()) > 10_000
