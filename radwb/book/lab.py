"""JupyterLab on this machine alone, at notebook 00, without a call to the world."""

import os
import subprocess
import sys
from importlib.resources import files

from radwb.book.sync import checkout

PIXELS = (
    "Notebooks that you save hold the pixels, names and texts that they show "
    "(outputs and widget state): "
    "before you share one, use Edit > Clear Outputs of All Cells."
)
PRIVATE = 0o077  # what Lab writes anew is readable by its owner alone
POSIX = os.name == "posix"
START = "notebooks/00_start_here.ipynb"


def command(root, *, port, browser):
    """The call of JupyterLab.

    Bound to 127.0.0.1, token kept, no news, no look for updates or extensions.
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
    call = [sys.executable, "-m", "jupyterlab"]
    call += [f"--{key}={value}" for key, value in settings.items()]
    if POSIX and os.geteuid() == 0:  # in a container; Lab would refuse
        call.append("--allow-root")
    return call


def environment():
    """Where Lab finds our defaults: a folder of the package, before the user's own."""
    folders = [str(files("radwb.book").joinpath("jupyter"))]
    theirs = os.environ.get("JUPYTER_CONFIG_PATH")
    if theirs:
        folders.append(theirs)
    return os.environ | {
        "JUPYTER_CONFIG_PATH": os.pathsep.join(folders),
        "PLOTLY_RENDERER": "plotly_mimetype",
    }


def open_lab(*, port=8888, browser=True):
    """Serve until Ctrl-C; the exit status of JupyterLab."""
    root = checkout()
    call = command(root, port=port, browser=browser)
    print(PIXELS)
    umask = PRIVATE if POSIX else -1
    return subprocess.call(call, env=environment(), cwd=root, umask=umask)
