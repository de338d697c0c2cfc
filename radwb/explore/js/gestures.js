// Mouse, pen and keys on the film. The right button stays the browser's: its menu copies
// and saves the picture.

function gestures(film, model, n, choose, tools) {
  const { canvas } = film,
    { sliders, look: first } = model.get("about"),
    clicks = { timer: null, before: null, when: 0 };
  const asker = patches(film, model, n, choose, tools),
    hover = hovering(film, model, n, asker);
  const kinds = { window: windowDrag, pan: panDrag, measure, box, lasso: box, swipe };
  let drag = null,
    saving = null;

  function windowDrag({ look, dx, dy }) {
    const clip = (part, value) =>
      Math.min(sliders[part][2], Math.max(sliders[part][1], value));
    const window = clip("window", look.window + dx),
      level = clip("level", look.level + dy);
    model.set("look", { ...look, window, level }); // Python hears of it once, at the end
  }

  function panDrag({ look, dx, dy }) {
    const [x, y, zoom] = look.place;
    goTo([x - dx / zoom, y - dy / zoom, zoom]);
  }

  function measure({ from, at }) {
    tools.line = { case: model.get("scan").case, ends: [from, at] };
    film.read(...at);
    tools.redraw();
  }

  function box({ from, at, path, kind }) {
    const corners = [from, [at[0], from[1]], at, [from[0], at[1]]];
    tools.path = { pane: n, points: kind === "lasso" ? path : corners };
    film.redraw();
  }

  function swipe({ event }) {
    const { left, width } = canvas.getBoundingClientRect();
    tools.swipe = Math.min(1, Math.max(0, (event.clientX - left) / width));
    tools.redraw();
  }

  function goTo(place) {
    const look = looks(model);
    place = within(place, model.get("scan"), canvas.clientWidth);
    model.set("look", { ...look, place });
    clearTimeout(saving);
    saving = setTimeout(() => model.save_changes(), 200);
  }

  function kindOf(event) {
    if (event.button === 1) return "pan";
    if (atSwipe(canvas, tools.swipe, event)) return "swipe";
    return event.shiftKey ? "box" : tools.tool;
  }

  canvas.onpointerdown = (event) => {
    if (event.button > 1 || drag || event.ctrlKey) return; // the browser's menu
    if (event.button === 1) event.preventDefault(); // else the page scrolls by itself
    const look = looks(model),
      from = onFilm(look.place, canvas, event);
    const { pointerId, clientX: x, clientY: y } = event;
    drag = {
      pointerId,
      x,
      y,
      look,
      from,
      kind: kindOf(event),
      path: [from],
      moved: false,
    };
    canvas.setPointerCapture(pointerId);
  };

  canvas.onpointermove = (event) => {
    const at = onFilm(looks(model).place, canvas, event);
    if (drag && event.buttons === 0) end(); // let go where nobody told the page
    if (!drag) return point(event, at);
    if (event.pointerId !== drag.pointerId) return;
    const x = event.clientX - drag.x,
      y = event.clientY - drag.y;
    drag.moved ||= Math.hypot(x, y) > 4;
    if (!drag.moved) return;
    drag.path.push(at);
    const dx = x / canvas.clientWidth,
      dy = y / canvas.clientHeight;
    kinds[drag.kind]({ ...drag, dx, dy, at, event });
  };

  function end(event, kept = true) {
    if (!drag || (event && event.pointerId !== drag.pointerId)) return;
    const { kind, moved } = drag,
      points = tools.path?.points;
    clicks.dragged = moved;
    drag = null;
    tools.path = null;
    if (moved && (kind === "window" || kind === "pan")) model.save_changes();
    if (points) film.redraw();
    if (points && kept) asker.region(points);
  }

  canvas.onpointerup = (event) => end(event);
  canvas.onpointercancel = (event) => end(event, false);
  canvas.onlostpointercapture = (event) => end(event, false);

  // The first click waits a little: it may be the first half of a double click.
  canvas.onclick = (event) => {
    clearTimeout(clicks.timer);
    if (event.detail > 1 || clicks.dragged || tools.tool === "measure") return;
    clicks.before = null;
    const patch = asker.at(onFilm(looks(model).place, canvas, event));
    if (patch === null) return;
    const shown = model.get("case");
    clicks.timer = setTimeout(() => {
      if (model.get("case") !== shown) return;
      Object.assign(clicks, { before: model.get("panes"), when: performance.now() });
      if (hover.keep()) asker.ask(patch);
      else asker.pick(patch);
    }, 250);
  };

  canvas.ondblclick = () => {
    clearTimeout(clicks.timer);
    // a slow double click, whose first half has gone out already
    if (clicks.before && performance.now() - clicks.when < 800)
      set(model, "panes", clicks.before);
    clicks.before = null;
    const { window, level } = first;
    tools.look({ window, level, place: [0.5, 0.5, 1] });
  };

  function point(event, at) {
    film.read(...at);
    canvas.classList.toggle("rx-at-swipe", atSwipe(canvas, tools.swipe, event));
    if (tools.hover || event.altKey) hover.over(asker.at(at));
    else hover.leave();
  }

  canvas.onpointerleave = () => {
    if (drag) return;
    film.read(null);
    hover.leave();
  };

  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.altKey) return; // the page's
      event.preventDefault();
      const scan = model.get("scan"),
        { place } = looks(model);
      const lines = event.deltaMode ? 16 : 1; // px a line
      const factor = Math.exp(-0.002 * lines * event.deltaY);
      const at = onFilm(place, canvas, event);
      goTo(zoomed(place, factor, ...at, scan, canvas.clientWidth));
    },
    { passive: false },
  );

  canvas.onkeydown = (event) => {
    if (event.key === "Escape") return void escape(event);
    const step = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    }[event.key];
    if (!step || !(event.shiftKey || event.altKey)) return;
    event.preventDefault();
    const [x, y, zoom] = looks(model).place;
    if (!event.shiftKey) goTo([x + step[1] / 8 / zoom, y + step[0] / 8 / zoom, zoom]);
    else if (event.altKey) asker.grow(...step);
    else asker.step(...step);
  };

  // What is being drawn goes first; else the pane goes back to its former method.
  function escape(event) {
    clearTimeout(clicks.timer);
    if (!drag && !tools.line) return;
    event.preventDefault();
    end(undefined, false);
    tools.line = null;
    film.read(null);
    tools.redraw();
  }

  film.answered = hover.answered;
}
