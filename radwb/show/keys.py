"""Keys that stay in the widget that has the focus."""

from pathlib import Path

import anywidget
import ipywidgets

KEEP_KEYS = Path(__file__).with_name("keys.js").read_text()
GUARD = """
export default {
  render({ el }) {
    let frame = 0;
    el.style.display = "none";
    const guard = () => {  // it lies in its box a little after it is rendered
      if (el.isConnected) keepKeys(el.parentElement);
      else frame = requestAnimationFrame(guard);
    };
    guard();
    return () => cancelAnimationFrame(frame);
  },
};
"""


class Guard(anywidget.AnyWidget):
    """Keeps the keys of the box it lies in from the notebook; it isn't seen."""

    _esm = KEEP_KEYS + GUARD


def guarded(*widgets: ipywidgets.Widget) -> ipywidgets.VBox:
    """The widgets in a box that keeps its keys.

    >>> box = guarded(ipywidgets.Text())
    """
    return ipywidgets.VBox([*widgets, Guard()])
