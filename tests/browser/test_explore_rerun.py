"""A cell with the widget run over and over in JupyterLab: nothing is left behind."""

import re

import pytest
from tables import effusion_table
from test_explore_widget import notebook_in_lab

pytestmark = pytest.mark.browser
WARM = 8  # runs until the caches, which have bounds, are full
RUNS = 15
CELL = """import ctypes, gc, os, threading
import pandas as pd
import radwb as rw
from ipywidgets.widgets.widget import _instances
films = pd.read_csv("films.csv")
model = rw.models.load("radwb-tiny")
widget = rw.show.explore(model, films, against="gradcam")
widget.wait(60, idle=True)
gc.collect()
ctypes.CDLL(None).malloc_trim(0)  # what is free is not held
pages = int(open("/proc/self/statm").read().split()[1])
runs = globals().get("runs", 0) + 1
mb = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
print(f"run {runs}: {len(_instances)} comms, {threading.active_count()} threads, "
      f"{mb:.0f} MB.")
widget"""
SAID = re.compile(r"run (\d+): (\d+) comms, (\d+) threads, (\d+) MB\.")


def test_more_runs_leave_one_widget(chromium, address):
    table = effusion_table()
    seen = []
    with notebook_in_lab(chromium, address, table, CELL) as page:
        for n in range(1, WARM + RUNS + 1):
            page.locator(".jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Control+Enter")
            line = page.locator(f".jp-OutputArea :text('run {n}: ')").last
            line.wait_for()
            _, comms, threads, mb = SAID.search(line.inner_text()).groups()
            seen.append((int(comms), int(threads), int(mb)))
            page.wait_for_selector(".rx[data-painted]")
        assert page.locator(".rx[data-painted]").count() == 1
        assert page.errors == []
    print(seen)
    warm, last = seen[WARM - 1], seen[-1]
    assert last[0] <= warm[0]
    assert last[1] <= warm[1]
    assert last[2] < warm[2] + 10  # a film and its maps take more
