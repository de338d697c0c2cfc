// The volume viewer: three planes on 2-D canvases, which need no WebGL. The voxels come
// once, thinned (`scan`, gzip), and are cut here; each slice at every voxel is asked of
// the kernel and takes the thinned one's place. Words reach the page as text alone.

const CURSOR = "#56b4e9"; // sky, of no map
const LINE = "#f0e442"; // yellow, of the measuring line
const KEPT = 40; // slices at every voxel
const PATIENCE = 5000; // ms until a kernel that doesn't answer is called asleep
const VOXEL = 4; // screen px from which a voxel is drawn as a square
const BARS = [1, 2, 5, 10, 20, 50, 100, 200, 500]; // mm
const TYPES = { int16: Int16Array, uint8: Uint8Array, float32: Float32Array };
const views = new WeakMap(); // model -> how many views of it are on the page

const clip = (value, low, high) => Math.min(Math.max(value, low), high);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

function make(tag, props = {}, ...children) {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
}

async function unpacked(bytes, kind) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new TYPES[kind](await new Response(stream).arrayBuffer());
}

// (rows x columns) of a plane as it is hung, from slice `first` to `last` of its axis;
// of several the highest value (MIP)
function cut({ values, shape }, plane, first, last) {
  const strides = [shape[1] * shape[2], shape[2], 1];
  const height = shape[plane.rows], width = shape[plane.columns];
  const down = strides[plane.rows] * (plane.flip_rows ? -1 : 1);
  const along = strides[plane.columns] * (plane.flip_columns ? -1 : 1);
  const corner = (down < 0 ? -down * (height - 1) : 0) + (along < 0 ? -along * (width - 1) : 0);
  const picture = new values.constructor(height * width);
  for (let slice = first; slice <= last; slice++) {
    const start = corner + slice * strides[plane.axis];
    for (let row = 0, n = 0; row < height; row++)
      for (let place = start + row * down, end = n + width; n < end; n++, place += along)
        if (slice === first || values[place] > picture[n]) picture[n] = values[place];
  }
  return { values: picture, height, width };
}

// as radwb.data.scan.to_display: black at `low`, white at `high`
function greyOf({ values, height, width }, { low, high, invert }, padding) {
  const image = new ImageData(width, height), out = image.data;
  const factor = high > low ? 255 / (high - low) : Infinity;
  for (let n = 0, at = 0; n < values.length; n++, at += 4) {
    const value = values[n];
    const away = padding && value >= padding[0] && value <= padding[1];
    const shown = clip(value === low ? 0 : (value - low) * factor, 0, 255);
    const grey = away || Number.isNaN(value) ? 0 : invert ? 255 - shown : shown;
    out[at] = out[at + 1] = out[at + 2] = grey;
    out[at + 3] = 255;
  }
  return onCanvas(image);
}

// as radwb.show.mix.blend lays a map over a scan
function coloursOf({ values, height, width }, { alpha, threshold }, { colours, gamma }) {
  const image = new ImageData(width, height), out = image.data;
  const opacity = range(0, 255).map((level) => 255 * alpha * (level / 255) ** gamma);
  for (let n = 0, at = 0; n < values.length; n++, at += 4) {
    const level = values[n];
    for (let part = 0; part < 3; part++) out[at + part] = colours[3 * level + part];
    out[at + 3] = level < 255 * threshold ? 0 : opacity[level];
  }
  return onCanvas(image);
}

// drawn by the CPU: small pictures that change with each event needn't go to a GPU and back
const brush = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

function onCanvas(image) {
  const canvas = make("canvas", { width: image.width, height: image.height });
  brush(canvas).putImageData(image, 0, 0);
  return canvas;
}

// index <-> LPS millimetres by the rows of a 3 x 4 matrix
const moved = (matrix, [a, b, c]) => matrix.map((row) => row[0] * a + row[1] * b + row[2] * c + row[3]);

class Viewer {
  constructor(model, el) {
    this.model = model;
    this.about = model.get("about");
    this.colours = new Uint8Array(this.about.colours.buffer ?? this.about.colours);
    this.thinned = this.about.every.some((step) => step > 1);
    this.details = new Map(); // of slices at every voxel
    this.panes = this.about.planes.map((plane) => new Pane(this, plane));
    this.root = make("div", { className: "rv" });
    keepKeys(this.root);
    this.build();
    el.replaceChildren(this.root);
    this.listeners = [["change:look", this.draw], ["change:mm", this.draw], ["change:view", this.draw],
      ["change:scan", this.load], ["change:layers", this.load], ["msg:custom", this.arrived]];
    for (const [name, act] of this.listeners) model.on(name, act);
    this.watch = new ResizeObserver(this.draw);
    this.watch.observe(this.root);
    this.load();
  }

  remove() {
    for (const [name, act] of this.listeners) this.model.off(name, act);
    this.watch.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.saver);
    clearTimeout(this.timer);
    // JupyterLab may keep the element: nothing of weight hangs on it
    for (const pane of this.panes) {
      pane.forget();
      pane.canvas.width = pane.canvas.height = 0;
    }
    this.scan = this.levels = null;
    this.details.clear();
    this.root.remove();
    this.root = this.panes = null;
  }

  // ---- what is shown

  get look() { return this.model.get("look"); }
  get zoom() { return this.model.get("view").zoom; }
  get layer() { return this.look.map ? this.model.get("layers")[this.look.layer] : undefined; }

  get at() {
    const index = moved(this.about.inverse, this.model.get("mm"));
    return index.map((value, axis) => clip(Math.round(value), 0, this.about.shape[axis] - 1));
  }

  set(name, value) {
    this.model.set(name, value);
    clearTimeout(this.saver); // the kernel needs to know where it ends, not each step
    this.saver = setTimeout(() => this.model.save_changes(), 150);
  }

  change(part) { this.set("look", { ...this.look, ...part }); }
  frameOf(part) { this.set("view", { ...this.model.get("view"), ...part }); }
  goto(at) {
    const inside = at.map((index, axis) => clip(index, 0, this.about.shape[axis] - 1));
    this.set("mm", moved(this.about.affine, inside));
  }

  // ---- what comes

  load = async () => {
    const scan = this.model.get("scan"), layers = this.model.get("layers");
    if (!scan.byteLength) return this.send({ need: true });
    const shape = this.about.small;
    const voxels = await unpacked(scan, this.about.kind);
    const levels = await Promise.all(layers.map((layer) => unpacked(layer.data, "uint8")));
    if (!this.root) return; // removed meanwhile
    this.scan = { values: voxels, shape };
    this.levels = levels.map((values) => ({ values, shape }));
    for (const pane of this.panes) pane.forget();
    this.fillLayers();
    this.draw();
  };

  send(message) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.asleep = true; this.draw(); }, PATIENCE);
    try { this.model.send(message); } catch { this.asleep = true; }
  }

  ask(key) {
    if (this.waiting || this.asleep) return;
    this.waiting = key;
    this.send({ slice: JSON.parse(key) });
  }

  arrived = (message, [bytes]) => {
    clearTimeout(this.timer);
    this.waiting = null;
    this.asleep = false;
    const { key, kind, height, width } = message;
    const part = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    this.details.set(key, { values: new TYPES[kind](part), height, width });
    const [oldest] = this.details.keys();
    if (this.details.size > KEPT) this.details.delete(oldest);
    this.draw();
  };

  // ---- what is drawn, once a frame however many events came

  draw = () => { this.frame ??= requestAnimationFrame(this.paint); };

  paint = () => {
    this.frame = undefined;
    this.show();
    if (!this.scan) return;
    for (const pane of this.panes) pane.paint();
    this.root.dataset.painted = this.at.join(" ");
  };

  show() {
    const { low, high, invert, slab, alpha, threshold, main, map } = this.look;
    const width = high - low, middle = (high + low) / 2;
    this.window.textContent = `W ${width.toFixed(width < 10 ? 2 : 0)} L ${middle.toFixed(width < 10 ? 2 : 0)} ${this.about.unit}`;
    this.buttons.forEach((button, n) => {
      const [, from, to] = this.about.presets[n];
      button.setAttribute("aria-pressed", from === low && to === high);
    });
    this.invert.setAttribute("aria-pressed", invert);
    this.rule.setAttribute("aria-pressed", !!this.measuring);
    Object.assign(this.slab, { value: slab });
    this.slabText.textContent = slab ? `${slab} mm` : "off";
    Object.assign(this.alpha, { value: alpha });
    Object.assign(this.threshold, { value: threshold });
    this.layers.value = map ? this.look.layer : -1;
    this.panes.forEach((pane, n) => pane.box.classList.toggle("rv-main", n === main));
    const layer = this.layer;
    this.words.replaceChildren(...(layer?.words ?? []).map((line) => make("div", { textContent: line })));
    this.low.textContent = layer ? +layer.low.toPrecision(3) : "";
    this.high.textContent = layer ? +layer.high.toPrecision(3) : "";
    const thin = `The kernel doesn't answer, so this is every ${this.about.every.join(" x ")} voxel. Run the cell again to see them all.`;
    const none = "The kernel doesn't answer, and this notebook was saved without the voxels. Run the cell again.";
    this.note.textContent = !this.asleep ? "" : this.scan ? thin : none;
  }

  hover(text) { this.status.textContent = text; }

  // ---- the controls

  build() {
    const { lines, presets, notes } = this.about;
    const button = (text, title, onclick) => make("button", { type: "button", textContent: text, title, onclick });
    this.buttons = presets.map(([name, low, high], n) => button(name, `${low} to ${high} ${this.about.unit} (key ${n + 1})`, () => this.change({ low, high })));
    this.invert = button("Invert", "black for white (i)", () => this.press("i"));
    this.rule = button("Measure", "then drag a line (m)", () => this.press("m"));
    this.window = make("span", { className: "rv-window" });
    const slider = (name, least, most, step) => make("input", { type: "range", min: least, max: most, step, oninput: (event) => this.change({ [name]: +event.target.value }) });
    this.slab = slider("slab", 0, 40, 1);
    this.slabText = make("span");
    this.alpha = slider("alpha", 0, 1, 0.05);
    this.threshold = slider("threshold", 0, 1, 0.01);
    this.layers = make("select", { onchange: (event) => this.choose(+event.target.value) });
    this.low = make("span");
    this.high = make("span");
    const scale = onCanvas(new ImageData(Uint8ClampedArray.from(range(0, 255).flatMap((n) => [...this.colours.slice(3 * n, 3 * n + 3), 255])), 256, 1));
    scale.className = "rv-scale";
    const label = (text, ...parts) => make("label", {}, text, ...parts);
    this.mapBar = make("div", { className: "rv-bar" }, label("Map", this.layers), label("Opacity", this.alpha), label("Threshold", this.threshold),
      button("Peak", "to the map's highest value (p)", () => this.press("p")), make("span", { className: "rv-legend" }, this.low, scale, this.high));
    const bar = make("div", { className: "rv-bar" }, ...this.buttons, this.invert, button("Fit", "the whole slice (f, double click)", () => this.press("f")),
      this.rule, label("Slab MIP", this.slab, this.slabText), this.window);
    this.status = make("div", { className: "rv-status" });
    this.status.setAttribute("role", "status");
    this.note = make("div", { className: "rv-note" });
    this.words = make("div", { className: "rv-words" });
    const panes = make("div", { className: "rv-panes" }, ...this.panes.map((pane) => pane.box));
    panes.style.height = `${this.about.height}px`;
    const head = lines.filter(Boolean).map((line, n) => make("div", { className: n ? "rv-words" : "rv-title", textContent: line }));
    this.root.append(...head, bar, this.mapBar, panes, this.status, this.note, this.words, make("div", { className: "rv-words", textContent: notes }));
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  fillLayers() {
    const layers = this.model.get("layers");
    const option = (text, value) => make("option", { textContent: text, value });
    this.layers.replaceChildren(option("none", -1), ...layers.map(({ name }, n) => option(name, n)));
    this.mapBar.hidden = !layers.length;
  }

  choose(number) {
    this.change(number < 0 ? { map: false } : { map: true, layer: number });
  }

  key(event) {
    const typing = event.target.matches("select, input");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.press(event.key)) event.preventDefault();
  }

  // what a key does; false: nothing
  press(key) {
    const preset = this.about.presets[+key - 1];
    const pane = this.panes.find((one) => one.canvas === document.activeElement) ?? this.panes[this.look.main];
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 };
    const acts = {
      0: () => this.change({ ...this.about.window, invert: false }),
      i: () => this.change({ invert: !this.look.invert }),
      b: () => this.change({ map: !this.look.map }),
      f: () => this.frameOf({ zoom: 1, centres: null }),
      m: () => { this.measuring = !this.measuring; this.frameOf({ line: null }); this.draw(); },
      p: () => this.layer && this.goto(this.layer.peak),
      "+": () => pane.zoomBy(1.25),
      "-": () => pane.zoomBy(0.8),
    };
    if (preset) this.change({ low: preset[1], high: preset[2] });
    else if (steps[key]) pane.scroll(steps[key]);
    else if (acts[key]) acts[key]();
    else return false;
    return true;
  }
}
