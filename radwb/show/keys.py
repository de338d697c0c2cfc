"""Keys that stay in the widget that has the focus."""

from pathlib import Path

import anywidget
import ipywidgets
import traitlets

KEEP_KEYS = Path(__file__).with_name("keys.js").read_text()
GUARD = """
const LESS = 'viewer="canvas" needs none.';
const NONE = `This browser has no WebGL, which ipyniivue draws with: ${LESS}`;
const LOST = `The browser took the picture's WebGL away. Run the cell again; ${LESS}`;

function hasWebgl() {
  const context = document.createElement("canvas").getContext("webgl2");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return Boolean(context);
}

function letGo(box) {  // a browser has 16 contexts, and takes away the oldest
  for (const canvas of box.querySelectorAll("canvas"))
    canvas.getContext("webgl2")?.getExtension("WEBGL_lose_context")?.loseContext();
}

export default {
  render({ model, el }) {
    let frame = 0, box = null;
    const guard = () => {  // it lies in its box a little after it is rendered
      if (!el.isConnected) return (frame = requestAnimationFrame(guard));
      box = el.parentElement;
      keepKeys(box);
      if (!model.get("webgl")) return;
      box.addEventListener("webglcontextlost", () => { el.textContent = LOST; }, true);
      if (!hasWebgl()) el.textContent = NONE;
    };
    guard();
    return () => {
      cancelAnimationFrame(frame);
      if (box && model.get("webgl")) letGo(box);
    };
  },
};
"""


class Guard(anywidget.AnyWidget):
    """Keeps the keys of the box it lies in from the notebook.

    It isn't seen, unless WebGL is needed and missing: it says so.
    """

    _esm = KEEP_KEYS + GUARD
    webgl = traitlets.Bool(False).tag(sync=True)  # whether others in the box need it


def guarded(*widgets: ipywidgets.Widget, webgl: bool = False) -> ipywidgets.VBox:
    """The widgets in a box that keeps its keys.

    >>> box = guarded(ipywidgets.Text())

    Args:
        webgl: they draw with it: say so where there's none, and let it go with them.
    """
    return ipywidgets.VBox([*widgets, Guard(webgl=webgl)])
