"""Run notebooks one after the other, measure them, and keep what they show."""

import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from radwb.book import pages
from radwb.book.headline import MIME
from radwb.book.sync import build, put_fast_cell
from radwb.data.private import private_folder

PACKAGES = (
    "radwb",
    "torch",
    "open_clip_torch",
    "timm",
    "monai",
    "lightning-fabric",
    "numpy",
    "pandas",
    "plotly",
)
CELL_SECONDS = 1800
NAME = re.compile(
    r"\w[\w.-]*"
)  # a file of executed/ and gallery/, and nothing outside of them
FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError)


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


def run(sources: list[Path], out: Path, *, fast: bool = False) -> list[Result]:
    """Execute notebooks in order and write executed/NN.ipynb, gallery/*.html and
    tour.json under `out`.

    The first error stops the run; what was executed until then, the failed notebook
    included, is written.

    Args:
        sources: py:percent files; they run in the folder above them, notebooks/.
        out: the folder that is written to.
        fast: small numbers, by a cell put after the parameters.
    Returns:
        a Result for each notebook that was started.
    """
    private_folder(out / "executed")  # outputs and widget state hold pixels
    results = []
    with tqdm(total=len(sources), desc="notebooks", unit="nb", **pace()) as bar:
        for source in sources:
            nb = build(source)
            if fast:
                put_fast_cell(nb)
            result = execute(nb, source, Result(source.stem, *pages.opening(nb)))
            results.append(result)
            nbformat.write(nb, out / "executed" / f"{source.stem}.ipynb")
            tqdm.write(said(result))
            bar.update()
            if result.error:
                break
    tour = summary(results, fast=fast, planned=len(sources))
    (out / "tour.json").write_text(json.dumps(tour, indent=1) + "\n", encoding="utf-8")
    gallery(out)
    return results


def gallery(out: Path) -> Path:
    """Make the pages of what was executed into `out`, and their front page; returns the
    front page.
    """
    try:
        tour = json.loads((out / "tour.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"expected tour.json in {out}, got none. Try radwb tour."
        ) from None
    figures = {}
    for note in tour["notebooks"]:
        if not NAME.fullmatch(note["name"]):
            expected = (
                "expected the name of a notebook in tour.json, such as 03_zero_shot"
            )
            raise ValueError(f"{expected}, got {note['name']!r}")
        nb = nbformat.read(out / "executed" / f"{note['name']}.ipynb", as_version=4)
        pages.write_page(
            nb, out / "gallery" / f"{note['name']}.html", title=note["title"]
        )
        figures[note["name"]] = pages.headline_figure(nb)
    return pages.write_index(tour, figures, out / "gallery")


def execute(nb, source: Path, result: Result) -> Result:
    """Run one notebook in its own kernel; an error is kept in the result."""
    environment = {
        "PLOTLY_RENDERER": "plotly_mimetype",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "MPLBACKEND": "agg",
    }
    steps = dict(total=len(nb.cells), desc=f"  {source.stem}", unit="cell", leave=False)
    with tqdm(**steps, **pace()) as bar, Peak() as peak:
        place = {"metadata": {"path": str(source.parent.parent)}}
        quiet = [
            "--IPKernelApp.log_level=ERROR"
        ]  # its warning about TCP on 127.0.0.1 would break the bars
        options = dict(
            kernel_name="python3",
            timeout=CELL_SECONDS,
            resources=place,
            extra_arguments=quiet,
        )
        client = NotebookClient(nb, **options)
        client.on_cell_complete = lambda cell, cell_index: bar.update()
        start = time.monotonic()
        try:
            client.execute(env=os.environ | environment)
        except FAILURES as error:
            result.error = describe(nb, error)
    result.minutes, result.peak_gib = (
        round((time.monotonic() - start) / 60, 2),
        round(peak.gib, 2),
    )
    result.cells = sum(
        c.cell_type == "code" and c.execution_count is not None for c in nb.cells
    )
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            result.headline |= dict(output.get("data", {}).get(MIME, ()))
    return result


def describe(nb, error: Exception) -> str:
    """Which cell stopped, and the last line of its traceback."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if (
                output.output_type == "error"
                and "raises-exception" not in cell.metadata.get("tags", [])
            ):
                first = cell.source.strip().splitlines()[0]
                return f"cell {cell.id} ({first!r}): {output.ename}: {output.evalue}".splitlines()[
                    0
                ]
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


class Peak:
    """The largest memory (RSS) of the kernel and its children, looked at five times a
    second.
    """

    def __enter__(self):
        self.gib, self.done = 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        me = psutil.Process()
        while not self.done.wait(0.2):
            total = 0
            for process in me.children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.Error:  # it ended between the two calls
                    continue
            self.gib = max(self.gib, total / 2**30)


def summary(results: list[Result], *, fast: bool, planned: int) -> dict:
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


def machine() -> dict:
    return {
        "cores": len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process, "cpu_affinity")
        else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": gpu_name(),
    }


def gpu_name() -> str | None:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(
                command, capture_output=True, text=True, timeout=20, check=True
            ).stdout.strip()
            or None
        )
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def said(result: Result) -> str:
    numbers = "; ".join(
        f"{k.replace('_', ' ')} {v:.3g}"
        if isinstance(v, float)
        else f"{k.replace('_', ' ')} {v}"
        for k, v in result.headline.items()
    )
    state = f"STOPPED in {result.error}" if result.error else numbers
    return (
        f"{result.name}: {result.minutes:.1f} min, {result.peak_gib:.1f} GiB. {state}"
    )


def pace() -> dict:
    """A log file gets a line every half minute, a terminal a moving bar."""
    return {} if sys.stderr.isatty() else {"mininterval": 30, "maxinterval": 60}
