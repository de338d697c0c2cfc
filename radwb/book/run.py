"""Run notebooks one after the other, measure them, and keep what they show."""

import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from radwb.book import pages
from radwb.book.beside import write_beside
from radwb.book.headline import MIME
from radwb.book.sync import build, put_fast_cell
from radwb.data.private import private_folder

PACKAGES = "radwb torch open_clip_torch timm monai lightning-fabric numpy pandas plotly"
CELL_SECONDS = 1800
LOOK_SECONDS = 0.2  # between two looks at the memory
NAME = re.compile(r"\w[\w.-]*")  # a file of executed/ and gallery/, and none outside
FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError)
KERNEL_ENVIRONMENT = {
    "PLOTLY_RENDERER": "plotly_mimetype",
    "JUPYTER_PREFER_ENV_PATH": "1",
    "MPLBACKEND": "agg",
}


@dataclass
class Result:
    """What one notebook took and said."""

    name: str
    title: str = ""
    question: str = ""
    cells: int = 0
    minutes: float = 0.0
    peak_gib: float = 0.0
    error: str = ""
    headline: dict = field(default_factory=dict)


def run(sources, out, *, fast=False):
    """Execute notebooks in order.

    They are written as executed/NN.ipynb, gallery/*.html and tour.json. The first error
    stops the run; what was executed until then, the failed notebook included, is
    written.

    Args:
        sources: py:percent files; they run in the folder above them, notebooks/.
        out: the folder that is written to.
        fast: small numbers, by a cell put after the parameters.
    Returns:
        a Result for each notebook that was started.
    """
    private_folder(out / "executed")  # outputs and widget state hold pixels
    results = []
    with tqdm(total=len(sources), desc="notebooks", unit="nb", **bar_rate()) as bar:
        for source in sources:
            nb = build(source)
            if fast:
                put_fast_cell(nb)
            result = execute(nb, source)
            results.append(result)
            nbformat.write(nb, out / "executed" / f"{source.stem}.ipynb")
            tqdm.write(result_line(result))
            bar.update()
            if result.error:
                break
    tour = summary(results, fast=fast, planned=len(sources))
    (out / "tour.json").write_text(json.dumps(tour, indent=1) + "\n", "utf-8")
    gallery(out)
    return results


def gallery(out):
    """Make the pages of what was executed into `out`; returns the front page."""
    path = out / "tour.json"
    if not path.exists():
        raise FileNotFoundError(
            f"expected tour.json in {out}, got none. Try radwb tour."
        )
    tour = json.loads(path.read_text("utf-8"))
    figures = {}
    for note in tour["notebooks"]:
        name = note["name"]
        if not NAME.fullmatch(name):
            raise ValueError(
                "expected the name of a notebook in tour.json, such as 03_zero_shot, "
                f"got {name!r}"
            )
        nb = nbformat.read(out / "executed" / f"{name}.ipynb", as_version=4)
        page = out / "gallery" / f"{name}.html"
        pages.write_page(nb, page, title=note["title"])
        write_beside(nb, page.parent)
        figures[name] = pages.headline_figure(nb)
    return pages.write_index(tour, figures, out / "gallery")


def execute(nb, source):
    """Run one notebook in its own kernel; an error goes into its Result."""
    result = Result(source.stem, *pages.opening(nb))
    client = NotebookClient(
        nb,
        kernel_name="python3",
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(source.parent.parent)}},
        # its warning about TCP on 127.0.0.1 would break the bars
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    look = dict(desc=f"  {source.stem}", unit="cell", leave=False)
    start = time.monotonic()
    with tqdm(total=len(nb.cells), **look, **bar_rate()) as bar, Peak() as peak:
        client.on_cell_complete = lambda cell, cell_index: bar.update()
        try:
            client.execute(env=os.environ | KERNEL_ENVIRONMENT)
        except FAILURES as error:
            result.error = describe(nb, error)
    result.minutes = round((time.monotonic() - start) / 60, 2)
    result.peak_gib = round(peak.gib, 2)
    for cell in nb.cells:
        result.cells += bool(cell.get("execution_count"))
        for output in cell.get("outputs", []):
            result.headline |= dict(output.get("data", {}).get(MIME, ()))
    return result


def describe(nb, error):
    """Which cell stopped, and the last line of its traceback."""
    for cell in nb.cells:
        if "raises-exception" in cell.metadata.get("tags", []):
            continue
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                first = cell.source.strip().splitlines()[0]
                words = f"{output.ename}: {output.evalue}"
                return f"cell {cell.id} ({first!r}): {words}".splitlines()[0]
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


class Peak:
    """The largest memory (RSS) of the kernel and its children."""

    def __enter__(self):
        self.gib = 0.0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        me = psutil.Process()
        while not self.done.wait(LOOK_SECONDS):
            total = 0
            for process in me.children(recursive=True):
                with suppress(psutil.Error):  # it ended between the two calls
                    total += process.memory_info().rss
            self.gib = max(self.gib, total / 2**30)


def summary(results, *, fast, planned):
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "ok": len(results) == planned and not any(r.error for r in results),
        "fast": fast,
        "minutes": round(sum(r.minutes for r in results), 2),
        "peak_gib": max((r.peak_gib for r in results), default=0.0),
        "machine": machine(),
        "versions": versions(),
        "notebooks": [asdict(r) for r in results],
    }


def machine():
    process = psutil.Process()
    cores = os.cpu_count()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        cores = len(process.cpu_affinity())
    return {
        "cores": cores,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": gpu_name(),
    }


def gpu_name():
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(command, text=True, timeout=20).strip() or None
    return None


def versions():
    numbers = {"python": platform.python_version()}
    for name in PACKAGES.split():
        with suppress(PackageNotFoundError):
            numbers[name] = version(name)
    return numbers


def result_line(result):
    words = f"STOPPED in {result.error}"
    if not result.error:
        words = "; ".join(
            f"{name.replace('_', ' ')} {short(value)}"
            for name, value in result.headline.items()
        )
    cost = f"{result.minutes:.1f} min, {result.peak_gib:.1f} GiB"
    return f"{result.name}: {cost}. {words}"


def short(value):
    return f"{value:.3g}" if isinstance(value, float) else value


def bar_rate():
    """A log file gets a line every half minute, a terminal a moving bar."""
    return {} if sys.stderr.isatty() else {"mininterval": 30, "maxinterval": 60}
