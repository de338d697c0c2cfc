"""Screenshots of both in light, dark, narrow."""

import sys

sys.path[:0] = ["tests", "tests/browser"]
import pytest
from test_case_gallery import *
from test_case_gallery import films, lab
from test_axe import choose_theme

pytestmark = pytest.mark.browser


def test_shots(lab):
    run(lab, 0, ".rg .rg-thumb")
    run(lab, 1, ".rs[data-painted]")

    def shots(n):
        for w in (".rg", ".rs"):
            lab.locator(w).scroll_into_view_if_needed()
            lab.locator(w).screenshot(path=f"/tmp/F_shot_{n}{w[1:]}.png")

    lab.locator(".rs").screenshot(path="/tmp/F_shot_wait.png")
    lab.locator(".rs").get_by_role("button", name="Begin").click()
    lab.locator(".rs .rr-film").wait_for()
    for k in ("7", "y"):
        lab.keyboard.press(k)
    shots("light")
    choose_theme(lab, "Dark")
    lab.wait_for_timeout(1000)
    shots("dark")
    lab.set_viewport_size({"width": 700, "height": 1100})
    lab.wait_for_timeout(500)
    shots("narrow")
