// Mouse, pen and keys on the scan.

function gestures(canvas, model, n, painter, choose) {
  const view = () => model.get("views")[n] || {};
  const pick = (patch) => {
    const now = model.get("panes")[n],
      again = patch === now.patch;
    const keep = now.method === "attention" ? {} : { layer: null, head: null };
    choose({ method: "attention", ...keep, patch: again ? null : patch });
  };
  const { sliders, look: first } = model.get("about");
  const clip = (part, value) =>
    Math.min(sliders[part][2], Math.max(sliders[part][1], value));
  let start = null,
    moved = false;
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    [start, moved] = [
      { x: event.clientX, y: event.clientY, look: model.get("look") },
      false,
    ];
  };
  canvas.onpointermove = (event) => {
    if (!start) return;
    const dx = (event.clientX - start.x) / canvas.clientWidth,
      dy = (event.clientY - start.y) / canvas.clientHeight;
    moved ||= Math.hypot(event.clientX - start.x, event.clientY - start.y) > 4;
    if (!moved) return;
    const look = {
      ...start.look,
      window: clip("window", start.look.window + dx),
      level: clip("level", start.look.level + dy),
    };
    model.set("look", look); // Python hears of it once, at the end
  };
  canvas.onpointerup = (event) => {
    if (moved) model.save_changes();
    else if (start && view().tokens && view().thumbs) {
      const box = canvas.getBoundingClientRect();
      const patch = patchAt(
        view(),
        (event.clientX - box.left) / box.width,
        (event.clientY - box.top) / box.height,
      );
      if (patch !== null) pick(patch);
    }
    start = null;
  };
  canvas.ondblclick = () =>
    set(model, "look", {
      ...model.get("look"),
      window: first.window,
      level: first.level,
    });
  canvas.onkeydown = (event) => {
    const { tokens, thumbs } = view(),
      now = model.get("panes")[n].patch;
    if (event.key === "Escape" && now !== null) choose({ patch: null });
    const [dy, dx] = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    }[event.key] || [0, 0];
    if (!event.shiftKey || !thumbs || !(dx || dy)) return;
    event.preventDefault();
    const [rows, cols] = tokens,
      at = now ?? Math.floor(rows / 2) * cols + Math.floor(cols / 2);
    const row = Math.floor(at / cols) + dy,
      col = (at % cols) + dx;
    if (row >= 0 && row < rows && col >= 0 && col < cols)
      pick(now === null ? at : row * cols + col);
  };
}
