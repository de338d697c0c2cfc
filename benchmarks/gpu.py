"""What radwb does on a GPU: equal to the processor, and how fast; build/gpu.json.

python benchmarks/gpu.py [PART ...]    at most eight minutes on an H100
python benchmarks/gpu.py --small       the same parts at a hundredth of the size

Each part runs in a process of its own, with a limit in seconds: one that fails or is
too slow is a row that says so, and the others go on. The file is written after each
part. A machine without a GPU runs the parts on its processor, which `--small` is for.
Rows with a limit are claims, and say whether they are met; the others are figures.

A machine that is lent bare, with torch and without a network, gets what it lacks as
wheels, 29 MB in all. In the root of the repository, once:

    echo /.whl/ >> .git/info/exclude
    for name in anywidget asttokens comm decorator executing ftfy ipython \\
        ipython_pygments_lexers ipywidgets jedi jupyterlab_widgets lightning-fabric \\
        matplotlib-inline monai nibabel open_clip_torch parso pexpect platformdirs \\
        plotly prompt_toolkit psygnal ptyprocess pure_eval pydicom stack_data \\
        traitlets wcwidth widgetsnbextension; do
      python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 \\
        --platform manylinux2014_x86_64 -d .whl $name; done
    python3 -m pip wheel --no-deps -w .whl .

and there, with `.whl` carried and 560 seconds:

    python3 -m pip install -q --no-index --no-deps --no-compile --target build/site \\
      .whl/*.whl && export PYTHONPATH=$PWD/build/site && python3 benchmarks/gpu.py \\
      --out $OUT/gpu.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOTAL_S = 470  # of all parts; with the start below eight minutes
LEAST_S = 10  # a part with less left isn't begun
# seconds that each part may take, in the order in which they matter
LIMITS = {
    "card": 40,
    "capture": 60,
    "maps": 90,
    "volumes": 70,
    "training": 150,
    "embedding": 60,
    "latency": 70,
    "explorer": 70,
    "astra": 70,
    "memory": 70,
}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description="radwb on a GPU")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(LIMITS))
    parser.add_argument("--small", action="store_true", help="tiny, for a processor")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu.json")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if set(given.parts) - set(LIMITS):
        parser.error(f"expected parts of {', '.join(LIMITS)}, got {given.parts}")
    if given.alone:
        return alone(given.parts[0], given.small, given.alone)
    rows = measure(given.parts or list(LIMITS), given.small, given.out)
    return int(any("error" in row or row.get("met") is False for row in rows))


def alone(part: str, small: bool, out: Path) -> int:
    """One part, in the process that was started for it; its rows go to `out`."""
    from gpu_parts import PARTS, Machine

    rows = []
    for row in PARTS[part](Machine(small)):
        rows.append(row)
        # what is done counts, whatever follows; a process stopped here leaves it whole
        part_of_it = out.with_suffix(".part")
        part_of_it.write_text(json.dumps(rows))
        part_of_it.replace(out)
    return 0


def measure(parts: list[str], small: bool, out: Path) -> list[dict]:
    """All parts, one after the other; `out` is written after each."""
    end = time.monotonic() + TOTAL_S
    rows = []
    out.parent.mkdir(parents=True, exist_ok=True)
    for part in parts:
        left = min(LIMITS[part], end - time.monotonic())
        for row in isolated(part, small, left):
            rows.append({"part": part} | row)
            print(line(rows[-1]), flush=True)
        out.write_text(json.dumps({"small": small, "rows": rows}, indent=1) + "\n")
    return rows


def isolated(part: str, small: bool, seconds: float, program=__file__) -> list[dict]:
    """The rows of a part in a process of its own, and one that says how it ended.

    Args:
        seconds: after which it is stopped.
        program: called as this file is.
    """
    if seconds < LEAST_S:
        return [{"what": part, "error": f"not begun, {seconds:.0f} s were left"}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, str(program), part, "--alone", str(path)]
        began = time.monotonic()
        error = ended(command + ["--small"] * small, seconds)
        rows = json.loads(path.read_text()) if path.is_file() else []
    spent = {"what": part, "seconds": round(time.monotonic() - began, 1)}
    return [*rows, spent | ({"error": error} if error else {})]


def ended(command: list[str], seconds: float) -> str:
    """How a process ended, in a line; "" where all went well."""
    try:
        run = subprocess.run(
            command, timeout=seconds, stderr=subprocess.PIPE, text=True
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    if run.returncode == 0:
        return ""
    lines = run.stderr.strip().splitlines() or [f"ended with {run.returncode}"]
    return lines[-1][:300]


def line(row: dict) -> str:
    """A row for people."""
    value = row.get("error")
    if value is None and "value" in row:
        value = f"{row['value']:.4g} {row['unit']}"
    if value is None:
        value = f"{row['seconds']} s in all"
    verdict = {True: "met", False: "NOT MET", None: ""}[row.get("met")]
    return f"{row['part']:10} {row['what'][:52]:52} {value} {verdict}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
