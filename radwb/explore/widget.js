// The attention widget. Python sends the film once a case and each map as a small grid; all else is drawn here, with
// the constants of radwb.show.mix (`about.mix`), so that the picture is the one that Python draws.

export default { render };

function render({ model, el }) {
  const root = el.appendChild(make("div", { className: "rx", tabIndex: 0, role: "group", ariaLabel: "Attention explorer" }));
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
  const bar = toolbar(model, save);
  const stage = make("div", { className: "rx-panes" });
  const help = "← → film · drag: window, level (double click: reset) · click, Shift + arrows: what a patch attends to (Esc: none)";
  root.append(bar.root, stage, bar.display, make("div", { className: "rx-foot" }, make("span", {}, help), make("b", {}, model.get("about").legal)));
  let panes = [];

  function update() {
    const wanted = model.get("panes").length;
    if (wanted !== panes.length) {
      panes = Array.from({ length: wanted }, (_, n) => pane(model, n));
      stage.replaceChildren(...panes.map((p) => p.root));
      root.classList.toggle("rx-two", wanted > 1);
    }
    bar.update();
    panes.forEach((p) => p.update());
    root.dataset.painted = +(root.dataset.painted || 0) + 1;
  }

  function step(by) {
    const order = model.get("order");
    const at = order.indexOf(model.get("case")) + by;
    if (at >= 0 && at < order.length) set(model, "case", order[at]);
  }

  function save() {
    const name = `${model.get("scan").name}.png`.replace(/[^\w.-]+/g, "_");
    sheet(panes, model).toBlob((blob) => {
      const link = make("a", { href: URL.createObjectURL(blob), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  bar.step = step;
  root.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.shiftKey || event.defaultPrevented) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  const names = ["case", "order", "sorted_by", "panes", "look", "scan", "views"].map((name) => `change:${name}`).join(" ");
  model.on(names, update);
  update();
  return () => model.off(names, update);
}

// ---- the bar above the panes

function toolbar(model, save) {
  const position = make("span", { className: "rx-position", ariaLive: "polite" });
  const sort = press("Worst first", "", (on) => model.send({ worst_first: on }));
  const truth = press("Truth", "Outline what is known to be there", (on) => look({ truth: on }));
  const two = press("Compare", "A second pane", (on) => {
    const panes = model.get("panes");
    set(model, "panes", on ? [panes[0], panes[0]] : panes.slice(0, 1));
  });
  const sliders = {};
  for (const [part, [name, low, high]] of Object.entries(model.get("about").sliders))
    sliders[part] = slider(name, low, high, (value) => look({ [part]: value }));
  const scale = make("canvas", { className: "rx-scale", width: 128, height: 1 });
  paint(scale, colours(model), Uint8Array.from({ length: 128 }, (_, i) => 2 * i));
  const self = { update, root: null, step: () => {} };
  self.root = make("div", { className: "rx-bar", role: "toolbar", ariaLabel: "Films" },
    button("◀", "Previous film", () => self.step(-1)), button("▶", "Next film", () => self.step(1)), position,
    sort, truth, two, button("Save PNG", "Save what is seen", save));
  self.display = make("div", { className: "rx-bar rx-display", role: "toolbar", ariaLabel: "Display" },
    ...Object.values(sliders).map((s) => s.root), make("span", { className: "rx-legend" }, "low", scale, "high"));

  function look(changes) { set(model, "look", { ...model.get("look"), ...changes }); }

  function update() {
    const order = model.get("order"), now = model.get("look");
    position.textContent = `film ${order.indexOf(model.get("case")) + 1} of ${order.length}: ${model.get("scan").name}`;
    sort.ariaPressed = model.get("sorted_by") !== "";
    sort.title = model.get("sorted_by") ? `By ${model.get("sorted_by")}` : "Films by how little of the first pane's map lies on the truth";
    truth.ariaPressed = now.truth;
    two.ariaPressed = model.get("panes").length > 1;
    for (const [name, s] of Object.entries(sliders)) s.input.value = now[name];
  }
  return self;
}

// ---- one pane: controls, scan, heads, words

function pane(model, n) {
  const { models, methods, targets, of_head, no_layer, no_target } = model.get("about");
  const mine = () => model.get("panes")[n];
  const choose = (changes) => set(model, "panes", model.get("panes").map((p, i) => (i === n ? { ...p, ...changes } : p)));
  const method = choice("Method", methods, (value) => choose({ method: value, layer: null, head: null, patch: null }));
  const which = choice("Model", models, (value) => choose({ model: value, layer: null, head: null, patch: null }));
  const target = choice("Target", [], (value) => (value ? choose({ target: value }) : phrase.focus()));
  options(target.input, ["", ...targets], (value) => value || "typed →");
  const layer = choice("Layer", [], (value) => choose({ layer: value === "" ? null : +value }));
  const phrase = make("input", { type: "text", placeholder: "or type: left effusion vs right effusion", ariaLabel: "Phrase" });
  phrase.onchange = () => phrase.value.trim() && choose({ target: phrase.value.trim() });
  phrase.onkeydown = (event) => { if (event.key === "Enter") phrase.onchange(); };
  const canvas = make("canvas", { className: "rx-scan", tabIndex: 0, role: "img" });
  const score = make("div", { className: "rx-score" }), outlined = make("div", { className: "rx-truths" });
  const label = make("div", { className: "rx-label" }), verdict = make("div", { className: "rx-verdict", ariaLive: "polite" });
  const badge = make("span"), check = button("Check", "Would the map change with other weights or words? Takes a while", () => model.send({ check: n }));
  const sanity = make("div", { className: "rx-badge" }, badge, check), error = make("div", { className: "rx-error", role: "alert" });
  const said = make("span"), share = make("progress", { max: 1, ariaLabel: "Progress" });
  const busy = make("div", { className: "rx-busy", role: "status" }, make("i"), said, share,
    button("Cancel", "Stop this computation", () => model.send({ cancel: n })));
  const heads = headGrid(model, n, (changes) => choose(of_head.includes(mine().method) ? changes : { method: "attention", ...changes }));
  const root = make("section", { className: "rx-pane", ariaLabel: `Pane ${n + 1}` },
    make("div", { className: "rx-controls" }, models.length > 1 ? which.root : "", method.root, layer.root, target.root, phrase),
    make("div", { className: "rx-stage" },
      make("div", { className: "rx-film" }, label, canvas, busy),
      make("div", { className: "rx-side" }, error, verdict, score, sanity, outlined, heads.root)));
  const painter = film(canvas, model, n);
  let asked;
  gestures(canvas, model, n, painter, choose);

  function update() {
    const now = mine(), view = model.get("views")[n] || {}, fresh = view.case === model.get("scan").case;
    method.input.value = now.method;
    which.input.value = now.model;
    options(layer.input, ["", ...Array(view.layers || 0).keys()], (v) => (v === "" ? "default" : v));
    layer.input.value = now.layer ?? "";
    target.input.value = targets.includes(now.target) ? now.target : "";
    if (now.target !== asked) phrase.value = target.input.value ? "" : now.target; // else somebody is typing
    asked = now.target;
    label.textContent = view.label || "";
    verdict.textContent = view.error || !view.verdict ? "" : view.score ? `On the truth: ${view.finding}` : `No ${view.verdict.slice(3)}`;
    score.replaceChildren(...(view.error ? [] : numbers(view.score, view.bright)));
    outlined.replaceChildren(...(model.get("look").truth ? named(model.get("scan").truth, view.finding) : []));
    badge.textContent = view.badge || "";
    sanity.dataset.passed = view.passed;
    sanity.hidden = Boolean(view.error);
    check.hidden = view.passed != null || now.patch !== null;
    layer.input.disabled = no_layer.includes(now.method);
    target.input.disabled = phrase.disabled = no_target.includes(now.method);
    error.textContent = view.error || "";
    said.textContent = view.busy || "";
    const [, done, all] = (view.busy || "").match(/(\d+) of (\d+)/) || [];
    share.hidden = !all;
    share.value = done / all || 0;
    busy.classList.toggle("rx-on", Boolean(view.busy));
    canvas.ariaLabel = `${model.get("scan").name}: ${view.label}. ${view.error || view.verdict}`;
    painter.draw(fresh ? view : {});
    canvas.dataset.case = fresh ? view.case : "";
    heads.update(view, now);
  }
  return { root, update, canvas, words: () => {
    const view = model.get("views")[n];
    return [view.label, ...(view.error ? [view.error] : [view.verdict, view.badge])];
  } };
}

function numbers(score, bright) {
  if (!score) return [];
  const blind = `by chance ${score.area.toFixed(2)}, by brightness ${(bright ?? 0).toFixed(2)}`;
  const rows = [["hit", score.hit, "peak on it"], ["energy", score.energy, blind], ["IoU", score.iou, "cut to its size"]];
  return rows.map(([name, value, note]) => make("div", {}, make("span", {}, name), make("b", {}, value.toFixed(2)), make("small", {}, note)));
}

function named(truth, asked) {
  return Object.entries(truth || {}).map(([finding, { colour }]) => {
    const line = make("i");
    line.style.borderTop = `${finding === asked ? 4 : 2}px solid ${colour}`;
    return make("span", {}, line, finding);
  });
}

// ---- the grid of heads: a column of means, then a column a head, a row a layer

function headGrid(model, n, choose) {
  const root = make("div", { className: "rx-heads", role: "grid", ariaLabel: "Attention of each layer and head" });
  let buttons = [], shape = "", shown = [];

  function build(L, H, rows, cols) {
    root.style.setProperty("--columns", H + 1);
    root.style.setProperty("--thumb", `${Math.max(18, Math.min(model.get("panes").length > 1 ? 44 : 56, Math.floor(300 / (H + 1))))}px`);
    const top = ["", "mean", ...Array(H).keys()].map((t) => make("span", {}, `${t}`));
    buttons = [];
    const lines = Array.from({ length: L }, (_, l) => [make("span", {}, `${l}`), ...Array.from({ length: H + 1 }, (_, h) => {
      const name = `layer ${l}, ${h ? `head ${h - 1}` : "mean of heads"}`;
      const pick = () => choose({ layer: l, head: h ? h - 1 : null });
      const one = button("", name, pick);
      one.replaceChildren(make("canvas", { width: cols, height: rows }));
      buttons.push(one);
      return one;
    })]);
    root.replaceChildren(make("div", { className: "rx-head-title" }, "layer ↓ head →"), ...top, ...lines.flat());
  }

  root.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key], at = buttons.indexOf(event.target);
    if (!by || at < 0) return;
    event.preventDefault();
    const columns = +root.style.getPropertyValue("--columns");
    buttons[at + by * (event.key.endsWith("t") ? 1 : columns)]?.focus();
  };

  function update(view, now) {
    root.hidden = !view.thumbs;
    if (!view.thumbs) return;
    const [rows, cols] = view.tokens, { layers: L, heads: H } = view;
    if (shape !== (shape = [L, H, rows, cols].join())) build(L, H, rows, cols), (shown = []);
    const thumbs = bytes(view.thumbs), size = rows * cols, lut = colours(model);
    const stale = thumbs.some((v, i) => v !== shown[i]);
    shown = thumbs;
    const chosen = model.get("about").of_head.includes(now.method) ? (now.layer ?? L - 1) * (H + 1) + (now.head === null ? 0 : now.head + 1) : -1;
    buttons.forEach((b, i) => {
      if (stale) paint(b.firstChild, lut, thumbs.subarray(i * size, (i + 1) * size));
      b.ariaPressed = i === chosen;
      b.tabIndex = i === Math.max(0, chosen) ? 0 : -1; // one stop for the Tab key; arrows go on
    });
  }
  return { root, update };
}

// ---- the scan with its map

function film(canvas, model, n) {
  const ground = document.createElement("canvas");
  let known = null, level = null, drawn = [];

  function draw(view) {
    const scan = model.get("scan"), look = model.get("look");
    if (!scan.pixels) return void (canvas.width = canvas.height = 0); // it couldn't be read
    const longest = model.get("panes").length > 1 ? 400 : 480, ratio = window.devicePixelRatio || 1;
    const now = [canvas.width, view.grid, view.choice?.patch, view.finding, scan, look, longest, ratio];
    if (now.every((part, i) => part === drawn[i])) return; // a picture costs more than all else
    const [w, h] = scan.aspect > 1 ? [longest / scan.aspect, longest] : [longest, longest * scan.aspect];
    Object.assign(canvas, { width: Math.round(w * ratio), height: Math.round(h * ratio) });
    drawn = [canvas.width, ...now.slice(1)];
    canvas.style.width = `${w}px`;
    canvas.style.aspectRatio = `${w} / ${h}`;
    if (known !== view.grid) [known, level] = [view.grid, view.grid ? levels(view, scan.rows, scan.cols) : null];
    mix(ground, scan, level, look, model.get("about").mix);
    const pen = brush(canvas);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(ground, 0, 0, canvas.width, canvas.height);
    if (look.truth) outlines(pen, scan, view.finding, ratio);
    if (view.choice?.patch != null) marked(pen, view, ratio);
    if (scan.right) mark(pen, "R", scan.right, model.get("about").mix, ratio);
  }

  return { draw };
}

// The grid between its tokens' centres, as rw.data.to_scan spreads it: (rows, cols) values from 0 to 1.
function levels(view, rows, cols) {
  const grid = new Float32Array(view.grid.buffer.slice(view.grid.byteOffset, view.grid.byteOffset + view.grid.byteLength));
  const [top, left, bottom, right] = view.source, [y0, x0, y1, x1] = view.square;
  const place = (count, from, to, a, b, cells) => Array.from({ length: count }, (_, i) => {
    const along = ((i + 0.5) / count - from) / (to - from);
    if (along < 0 || along > 1) return null; // outside of the crop that the model saw
    const at = Math.min(Math.max((a + along * (b - a)) * cells - 0.5, 0), cells - 1), low = Math.min(Math.floor(at), cells - 2);
    return cells < 2 ? [0, 0, 0] : [low, low + 1, at - low];
  });
  const ys = place(rows, top, bottom, y0, y1, view.rows), xs = place(cols, left, right, x0, x1, view.cols);
  const out = new Float32Array(rows * cols);
  let min = Infinity, max = -Infinity;
  for (let r = 0, i = 0; r < rows; r++)
    for (let c = 0; c < cols; c++, i++) {
      const y = ys[r], x = xs[c];
      if (y && x) {
        const line = (row) => grid[row * view.cols + x[0]] * (1 - x[2]) + grid[row * view.cols + x[1]] * x[2];
        out[i] = line(y[0]) * (1 - y[2]) + line(y[1]) * y[2];
      }
      min = Math.min(min, out[i]);
      max = Math.max(max, out[i]);
    }
  return out.map((v) => (v - min) / (max - min || 1));
}

// As radwb.show.mix.blend does: the windowed scan under the map's colours, clear where the map is low.
function mix(ground, scan, level, look, { colours, gamma, least_window }) {
  const lut = bytes(colours);
  Object.assign(ground, { width: scan.cols, height: scan.rows });
  const grey = bytes(scan.pixels), image = new ImageData(scan.cols, scan.rows);
  const shade = Float32Array.from({ length: 256 }, (_, v) =>
    255 * Math.min(1, Math.max(0, (v / 255 - look.level) / Math.max(look.window, least_window) + 0.5)));
  const alphas = Float32Array.from({ length: 256 }, (_, v) => (v / 255) ** gamma * look.alpha);
  for (let i = 0; i < grey.length; i++) {
    const base = shade[grey[i]], step = level ? Math.round(level[i] * 255) : 0, alpha = level ? alphas[step] : 0;
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = base * (1 - alpha) + lut[3 * step + k] * alpha;
    image.data[4 * i + 3] = 255;
  }
  brush(ground).putImageData(image, 0, 0);
}

function outlines(pen, scan, asked, ratio) {
  for (const [finding, { lines, colour }] of Object.entries(scan.truth)) {
    const at = new Float32Array(lines.buffer.slice(lines.byteOffset, lines.byteOffset + lines.byteLength));
    const { width: W, height: H } = pen.canvas;
    pen.beginPath();
    for (let i = 0; i < at.length; i += 4) {
      pen.moveTo(at[i] * W, at[i + 1] * H);
      pen.lineTo(at[i + 2] * W, at[i + 3] * H);
    }
    const width = (finding === asked ? 2.5 : 1.2) * ratio;
    for (const [strokeStyle, lineWidth] of [["rgba(0,0,0,0.55)", width + 2 * ratio], [colour, width]]) { // seen on white too
      Object.assign(pen, { strokeStyle, lineWidth, lineCap: "round" });
      pen.stroke();
    }
  }
}

function marked(pen, view, ratio) {
  const [rows, cols] = view.tokens, row = Math.floor(view.choice.patch / cols), col = view.choice.patch % cols;
  const [x0, y0] = toCanvas(view, pen.canvas, col / cols, row / rows);
  const [x1, y1] = toCanvas(view, pen.canvas, (col + 1) / cols, (row + 1) / rows);
  for (const [colour, width] of [["black", 4], ["white", 2]]) {
    Object.assign(pen, { strokeStyle: colour, lineWidth: width * ratio });
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}

function toCanvas(view, canvas, x, y) {
  const [top, left, bottom, right] = view.source, [y0, x0, y1, x1] = view.square;
  return [(left + ((x - x0) / (x1 - x0)) * (right - left)) * canvas.width, (top + ((y - y0) / (y1 - y0)) * (bottom - top)) * canvas.height];
}

// x, y as fractions of the canvas -> the number of the patch, or null outside of what the model saw
function patchAt(view, x, y) {
  const [top, left, bottom, right] = view.source, [y0, x0, y1, x1] = view.square, [rows, cols] = view.tokens;
  const u = x0 + ((x - left) / (right - left)) * (x1 - x0), v = y0 + ((y - top) / (bottom - top)) * (y1 - y0);
  const inside = x >= left && x <= right && y >= top && y <= bottom;
  return inside ? Math.min(rows - 1, Math.floor(v * rows)) * cols + Math.min(cols - 1, Math.floor(u * cols)) : null;
}

// The letter at an edge of the picture: in its upper corner, or in its middle.
function mark(pen, text, edge, { right_mark, right_inset, right_size }, ratio) {
  const [across, down] = right_mark[edge], inset = right_inset * ratio, size = right_size * ratio;
  const x = inset + across * (pen.canvas.width - 2 * inset);
  const y = down ? pen.canvas.height - inset : inset + 0.875 * size; // of the line that the letter stands on
  pen.font = `600 ${size}px system-ui, sans-serif`;
  const textAlign = { 0: "left", 1: "right" }[across] ?? "center";
  Object.assign(pen, { fillStyle: "white", strokeStyle: "black", lineWidth: 3 * ratio, textAlign });
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}

// ---- mouse, pen and keys on the scan

function gestures(canvas, model, n, painter, choose) {
  const view = () => model.get("views")[n] || {};
  const pick = (patch) => {
    const now = model.get("panes")[n], again = patch === now.patch;
    const keep = now.method === "attention" ? {} : { layer: null, head: null };
    choose({ method: "attention", ...keep, patch: again ? null : patch });
  };
  const { sliders, look: first } = model.get("about");
  const clip = (part, value) => Math.min(sliders[part][2], Math.max(sliders[part][1], value));
  let start = null, moved = false;
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    [start, moved] = [{ x: event.clientX, y: event.clientY, look: model.get("look") }, false];
  };
  canvas.onpointermove = (event) => {
    if (!start) return;
    const dx = (event.clientX - start.x) / canvas.clientWidth, dy = (event.clientY - start.y) / canvas.clientHeight;
    moved ||= Math.hypot(event.clientX - start.x, event.clientY - start.y) > 4;
    if (!moved) return;
    const look = { ...start.look, window: clip("window", start.look.window + dx), level: clip("level", start.look.level + dy) };
    model.set("look", look); // Python hears of it once, at the end
  };
  canvas.onpointerup = (event) => {
    if (moved) model.save_changes();
    else if (start && view().tokens && view().thumbs) {
      const box = canvas.getBoundingClientRect();
      const patch = patchAt(view(), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      if (patch !== null) pick(patch);
    }
    start = null;
  };
  canvas.ondblclick = () => set(model, "look", { ...model.get("look"), window: first.window, level: first.level });
  canvas.onkeydown = (event) => {
    const { tokens, thumbs } = view(), now = model.get("panes")[n].patch;
    if (event.key === "Escape" && now !== null) choose({ patch: null });
    const [dy, dx] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
    if (!event.shiftKey || !thumbs || !(dx || dy)) return;
    event.preventDefault();
    const [rows, cols] = tokens, at = now ?? Math.floor(rows / 2) * cols + Math.floor(cols / 2);
    const row = Math.floor(at / cols) + dy, col = (at % cols) + dx;
    if (row >= 0 && row < rows && col >= 0 && col < cols) pick(now === null ? at : row * cols + col);
  };
}

// ---- the figure that is saved

function sheet(panes, model) {
  const wide = Math.max(...panes.map((p) => p.canvas.width)), ratio = window.devicePixelRatio || 1, line = 20 * ratio;
  const tall = Math.max(...panes.map((p) => p.canvas.height)), gap = 12 * ratio;
  const out = make("canvas", { width: panes.length * (wide + gap) + gap, height: tall + 6 * line });
  const pen = brush(out);
  Object.assign(pen, { fillStyle: "white" });
  pen.fillRect(0, 0, out.width, out.height);
  pen.font = `${13 * ratio}px system-ui, sans-serif`;
  panes.forEach((p, n) => {
    const x = gap + n * (wide + gap), [title, ...rest] = p.words();
    pen.fillStyle = "#1f2933";
    pen.fillText(`${model.get("panes")[n].model}. ${title}`, x, line, wide);
    pen.drawImage(p.canvas, x, 1.5 * line);
    rest.forEach((text, i) => pen.fillText(text, x, tall + (2.5 + i) * line, wide));
  });
  pen.fillStyle = "#52606d";
  pen.fillText(`${model.get("scan").name}. ${model.get("about").legal}.`, gap, out.height - line / 2);
  return out;
}

// ---- small parts

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function button(text, title, onclick) {
  return make("button", { type: "button", title, ariaLabel: title, onclick }, text);
}

function press(text, title, change) {
  const element = button(text, title, () => change(element.ariaPressed !== "true"));
  element.ariaLabel = text;
  return element;
}

function choice(name, values, change) {
  const input = make("select", { onchange: () => change(input.value) });
  options(input, values);
  return { input, root: make("label", {}, `${name} `, input) };
}

function options(input, values, say = (v) => v) {
  if (input.options.length !== values.length) input.replaceChildren(...values.map((v) => make("option", { value: v }, `${say(v)}`)));
}

function slider(name, min, max, change) {
  const input = make("input", { type: "range", min, max, step: 0.01, oninput: () => change(+input.value) });
  return { input, root: make("label", {}, `${name} `, input) };
}

function set(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

function colours(model) {
  return bytes(model.get("about").mix.colours);
}

function bytes(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function paint(canvas, lut, values) {
  const image = new ImageData(canvas.width, canvas.height);
  values.forEach((v, i) => image.data.set([lut[3 * v], lut[3 * v + 1], lut[3 * v + 2], 255], 4 * i));
  brush(canvas).putImageData(image, 0, 0);
}

// Small pictures that change often: drawn by the processor, since a software GPU takes a third of a second for them.
function brush(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}
