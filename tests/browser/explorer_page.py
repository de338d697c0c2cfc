"""The explorer's JavaScript on a page of its own, over a model without a kernel."""

import base64
import json

import numpy as np

from radwb.explore.widget import Explorer

HIDDEN = {"comm", "keys", "layout", "tabbable", "tooltip"}
MODEL = """
function decode(value) {
  if (Array.isArray(value)) return value.map(decode);
  if (value === null || typeof value !== "object") return value;
  if ("bytes" in value) {
    const bytes = Uint8Array.from(atob(value.bytes), c => c.charCodeAt(0));
    return new DataView(bytes.buffer);
  }
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, decode(v)]));
}
function modelOf(state) {
  const heard = [];
  const model = {
    state,
    sent: [],
    get: name => state[name],
    set(name, value) { state[name] = value; model.tell(`change:${name}`); },
    save_changes() {},
    send(message) { model.sent.push(message); },
    on(names, call) { names.split(" ").forEach(name => heard.push([name, call])); },
    off(names, call) {},
    tell(what, ...rest) {
      heard.forEach(([name, call]) => name === what && call(...rest));
    },
  };
  return model;
}
"""
RENDER = """async ([code, state, before]) => {
    const text = new TextDecoder().decode(
        Uint8Array.from(atob(code), c => c.charCodeAt(0)));
    const address = URL.createObjectURL(new Blob([text], {type: "text/javascript"}));
    const module = await import(address);
    window.model = modelOf(decode(state));
    new Function("model", before)(window.model);
    module.default.render({model, el: document.body});
}"""


def state_of(widget):
    """What the widget sends to a page, as plain values."""
    names = [name for name in widget.traits(sync=True) if not name.startswith("_")]
    return {name: getattr(widget, name) for name in names if name not in HIDDEN}


def draw(page, state, before=""):
    """The explorer on an empty page; `window.model` is its model.

    Args:
        before: JavaScript to be done with the model first.
    """
    page.set_content(f"<!doctype html><style>{Explorer._css}</style><body></body>")
    page.add_script_tag(content=MODEL)
    code = base64.b64encode(Explorer._esm.encode()).decode()
    page.evaluate(RENDER, [code, encoded(state), before])
    page.wait_for_selector(".rx[data-painted]")


def encoded(value):
    """As JSON holds it."""
    if isinstance(value, bytes | memoryview | np.ndarray):
        data = value.tobytes() if isinstance(value, np.ndarray) else bytes(value)
        return {"bytes": base64.b64encode(data).decode()}
    if isinstance(value, dict):
        return {key: encoded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(one) for one in value]
    return json.loads(json.dumps(value))
