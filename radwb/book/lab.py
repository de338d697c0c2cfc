"""JupyterLab on this machine alone, at notebook 00, without a call to the world
outside.
"""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from radwb.book.sync import checkout

PIXELS = (
    "Notebooks that you save hold the pixels, names and texts that they show (outputs and widget state): "
    "before you share one, use Edit > Clear Outputs of All Cells."
)
PRIVATE = 0o077  # what Lab writes anew is readable by its owner alone
START = "notebooks/00_start_here.ipynb"


def command(root: Path, *, port: int, browser: bool) -> list[str]:
    """The call of JupyterLab: bound to 127.0.0.1, token kept, no news, no look for
    updates or extensions.
    """
    settings = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": root,
        "ServerApp.open_browser": browser,
        "ExtensionApp.open_browser": browser,
        "LabApp.open_browser": browser,
        "LabApp.default_url": f"/lab/tree/{START}",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.news_url": None,
        "LabApp.extension_manager": "readonly",
    }
    call = [
        sys.executable,
        "-m",
        "jupyterlab",
        *(f"--{key}={value}" for key, value in settings.items()),
    ]
    as_root = (
        os.name == "posix" and os.geteuid() == 0
    )  # in a container; Lab would refuse
    return [*call, "--allow-root"] if as_root else call


def environment() -> dict[str, str]:
    """Where Lab finds our defaults: a folder of the package, before the user's own."""
    ours, theirs = (
        str(files("radwb.book").joinpath("jupyter")),
        os.environ.get("JUPYTER_CONFIG_PATH"),
    )
    paths = os.pathsep.join(filter(None, [ours, theirs]))
    return os.environ | {
        "JUPYTER_CONFIG_PATH": paths,
        "PLOTLY_RENDERER": "plotly_mimetype",
    }


def open_lab(*, port: int = 8888, browser: bool = True) -> int:
    """Serve until Ctrl-C; the exit status of JupyterLab."""
    root = checkout()
    call = command(root, port=port, browser=browser)
    print(PIXELS)
    return subprocess.call(
        call, env=environment(), cwd=root, umask=PRIVATE if os.name == "posix" else -1
    )
