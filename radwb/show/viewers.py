"""Which viewer of volumes can be reached from here, and why not another.

Our own (canvas) leads: it needs no WebGL, so it lives in any browser and any number of
times on a page. ipyniivue carries its viewer in the package, works offline and adds a
rendering, but a browser has 16 WebGL contexts, and some have none: it is asked for by
name. So is itkwidgets: its Python package holds no viewer but opens a fixed IPFS
address, its JupyterLab extension loads Vue from a CDN at each start, and where the
browser can't reach them the next cell of the notebook waits without end.
"""

import importlib.util
import socket
import sys

# from the heaviest to the one that needs nothing
VIEWERS = ("itkwidgets", "ipyniivue", "canvas", "plotly", "still")
PACKAGES = {"canvas": "anywidget"}  # where it has another name
BY_NAME = {
    "itkwidgets": "only asked for by name, since it needs a network and stops the "
    "notebook without",
    "ipyniivue": "only asked for by name, since it needs WebGL",
}
ITK_HOST = "dweb.link"  # what itkwidgets 1.0a55 opens its viewer from


def choose(viewer="auto"):
    """Which viewer can be reached from here, and in words why not those before it.

    >>> choose("still")
    ('still', 'Shown with still, as asked for')

    Raises:
        ValueError: the viewer isn't one of `VIEWERS`, or can't be reached.
    """
    if viewer == "auto":
        passed = []
        for name in VIEWERS:
            reason = missing(name)
            if not reason and name in BY_NAME:
                reason = BY_NAME[name]
            if not reason:
                return name, f"Shown with {name} ({'; '.join(passed)})"
            passed.append(f"{name}: {reason}")
    if viewer not in VIEWERS:
        raise ValueError(f"expected a viewer of {('auto', *VIEWERS)}, got {viewer!r}")
    reason = missing(viewer)
    if reason:
        raise ValueError(
            f"expected a viewer that can be reached, got {viewer}: {reason}. "
            "Try viewer='auto'."
        )
    return viewer, f"Shown with {viewer}, as asked for"


def missing(viewer):
    """Why a viewer can't be reached; "" where it can. A still needs nothing."""
    if viewer == "still":
        return ""
    if not importlib.util.find_spec(PACKAGES.get(viewer, viewer)):
        package = '"radwb[itk]"' if viewer == "itkwidgets" else viewer
        return f"not installed, pip install {package}"
    if viewer != "plotly" and not in_notebook():
        return "no notebook is running"
    if viewer == "itkwidgets" and not answers(ITK_HOST):
        return f"its viewer comes from {ITK_HOST}, which doesn't answer"
    return ""


def in_notebook():
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def answers(host, seconds=1.0):
    try:
        with socket.create_connection((host, 443), timeout=seconds):
            return True
    except OSError:
        return False
