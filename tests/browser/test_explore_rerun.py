"""A cell with the widget run over and over in JupyterLab: nothing is left behind."""

import re

import pytest
from tables import effusion_table
from test_explore_widget import notebook_in_lab

pytestmark = pytest.mark.browser
RUNS = 23
# What the process holds, by its allocator's own count: the pages beside it rise for as
# long as new threads get new arenas, though all in them is free (glibc; 27 MB).
CELL = """import ctypes, gc, threading
import pandas as pd
import radwb as rw
from ipywidgets.widgets.widget import _instances
films = pd.read_csv("films.csv")
model = rw.models.load("radwb-tiny")
widget = rw.show.explore(model, films, against="gradcam")
widget.wait(60, idle=True)
gc.collect()
NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
class Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]
count = ctypes.CDLL(None).mallinfo2
count.restype = Counts
runs = globals().get("runs", 0) + 1
mb = (count().uordblks + count().hblkhd) / 1e6
print(f"run {runs}: {len(_instances)} comms, {threading.active_count()} threads, "
      f"{mb:.1f} MB.")
widget"""
SAID = re.compile(r"run (\d+): (\d+) comms, (\d+) threads, ([\d.]+) MB\.")


def test_more_runs_leave_one_widget(chromium, address):
    table = effusion_table()
    seen = []
    with notebook_in_lab(chromium, address, table, CELL) as page:
        for n in range(1, RUNS + 1):
            page.locator(".jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Control+Enter")
            line = page.locator(f".jp-OutputArea :text('run {n}: ')").last
            line.wait_for()
            _, comms, threads, mb = SAID.search(line.inner_text()).groups()
            seen.append((int(comms), int(threads), float(mb)))
            page.wait_for_selector(".rx[data-painted]")
        assert page.locator(".rx[data-painted]").count() == 1
        assert page.errors == []
    print(seen)
    second, last = seen[1], seen[-1]
    assert last[0] <= second[0]
    assert last[1] <= second[1]
    assert last[2] < second[2] + 5  # one film and its maps take 13
