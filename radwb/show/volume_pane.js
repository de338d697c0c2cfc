// One plane of the viewer: where a voxel lies on the screen, and what a hand does there.

class Pane {
  constructor(viewer, plane) {
    Object.assign(this, { viewer, plane, turned: 0 });
    this.canvas = make("canvas", { tabIndex: 0 });
    const role = { role: "slider", "aria-label": `${plane.name} slice`, "aria-valuemin": 1, "aria-valuemax": this.depth };
    for (const [name, value] of Object.entries(role)) this.canvas.setAttribute(name, value);
    this.name = make("button", { type: "button", textContent: plane.name, title: "show it large" });
    this.name.onclick = () => viewer.change({ main: viewer.panes.indexOf(this) });
    this.box = make("div", { className: "rv-pane" }, this.name, this.canvas);
    const on = (name, act) => this.canvas.addEventListener(name, act, { passive: false });
    on("wheel", (event) => this.wheel(event));
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", () => { this.drag = null; });
    on("pointercancel", () => { this.drag = null; });
    on("pointerleave", () => viewer.hover(""));
    on("dblclick", () => viewer.press("f"));
    on("contextmenu", (event) => { event.preventDefault(); event.stopPropagation(); });
  }

  get depth() { return this.viewer.about.shape[this.plane.axis]; }
  get index() { return this.viewer.at[this.plane.axis]; }
  get size() { return [this.viewer.about.shape[this.plane.columns], this.viewer.about.shape[this.plane.rows]]; }
  get mm() { return [this.plane.mm[1], this.plane.mm[0]]; } // of a voxel: across, down
  get flips() { return [this.plane.flip_columns, this.plane.flip_rows]; }
  get axes() { return [this.plane.columns, this.plane.rows]; }
  get room() { return [this.canvas.clientWidth, this.canvas.clientHeight]; } // px
  get number() { return this.viewer.panes.indexOf(this); }

  // px a mm, where the whole slice fits the pane
  get fit() { return Math.min(...this.room.map((px, n) => px / (this.size[n] * this.mm[n]))); }
  get scale() { return this.fit * this.viewer.zoom; }

  // mm from the picture's corner to the middle of the pane
  get centre() {
    const kept = this.viewer.model.get("view").centres?.[this.number];
    return kept ?? this.size.map((n, k) => n * this.mm[k] / 2);
  }

  // voxels from the picture's corner -> px on the pane, and back
  toScreen(place) { return place.map((value, n) => this.room[n] / 2 + (value * this.mm[n] - this.centre[n]) * this.scale); }
  toPicture(px) { return px.map((value, n) => ((value - this.room[n] / 2) / this.scale + this.centre[n]) / this.mm[n]); }
  get cross() { return this.axes.map((axis, n) => 0.5 + (this.flips[n] ? this.size[n] - 1 - this.viewer.at[axis] : this.viewer.at[axis])); }

  voxel(place) {
    const at = [...this.viewer.at];
    this.axes.forEach((axis, n) => {
      const index = clip(Math.floor(place[n]), 0, this.size[n] - 1);
      at[axis] = this.flips[n] ? this.size[n] - 1 - index : index;
    });
    return at;
  }

  // ---- hands

  here(event) { return [event.offsetX, event.offsetY]; }

  wheel(event) {
    event.preventDefault();
    if (event.ctrlKey || event.altKey || event.metaKey) return this.zoomBy(Math.exp(-event.deltaY / 400), this.here(event));
    this.turned += event.deltaMode ? 40 * event.deltaY : event.deltaY;
    if (Math.abs(this.turned) < 40) return; // a touchpad tells many small ones
    this.scroll(Math.sign(this.turned) * Math.max(1, Math.floor(Math.abs(this.turned) / 200)));
    this.turned = 0;
  }

  scroll(steps) {
    const at = [...this.viewer.at];
    const { every } = this.viewer.about;
    const step = this.viewer.asleep ? every[this.plane.axis] : 1;
    at[this.plane.axis] += steps * step * this.plane.onwards;
    this.viewer.goto(at);
  }

  zoomBy(factor, px) {
    const zoom = clip(this.viewer.zoom * factor, 0.5, 40);
    const ratio = this.viewer.zoom / zoom;
    const centres = this.viewer.panes.map((pane) => {
      const place = pane === this && px ? this.toPicture(px) : pane.cross;
      return pane.centre.map((mm, n) => place[n] * pane.mm[n] + (mm - place[n] * pane.mm[n]) * ratio);
    });
    this.viewer.frameOf({ zoom, centres });
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const { low, high } = this.viewer.look;
    const kind = event.button === 2 ? "window" : event.button === 1 || event.shiftKey ? "pan" : this.viewer.measuring ? "measure" : "cursor";
    this.drag = { kind, px: this.here(event), low, high, centre: this.centre, from: this.toPicture(this.here(event)) };
    this.move(event);
    if (kind === "pan") event.preventDefault(); // or the middle button scrolls the page
  }

  move(event) {
    const px = this.here(event), place = this.toPicture(px);
    this.tell(place);
    if (!this.drag) return;
    const along = px.map((value, n) => value - this.drag.px[n]);
    this[this.drag.kind](place, along);
  }

  cursor(place) { this.viewer.goto(this.voxel(place)); }
  measure(place) { this.viewer.frameOf({ line: { pane: this.number, index: this.index, ends: [this.drag.from, place] } }); }

  // across: the width, by e each 200 px; down: the middle, as far as the width is now
  window(_, [across, down]) {
    const { low, high } = this.drag, { span } = this.viewer.about;
    const width = clip((high - low) * Math.exp(across / 200), span / 1000, 2 * span);
    const middle = (low + high) / 2 + down * Math.max(high - low, span / 8) / 300;
    this.viewer.change({ low: middle - width / 2, high: middle + width / 2 });
  }

  pan(_, along) {
    const centres = this.viewer.panes.map((pane) => pane.centre);
    centres[this.number] = this.drag.centre.map((mm, n) => mm - along[n] / this.scale);
    this.viewer.frameOf({ centres });
  }

  // ---- pictures

  // slices of a stack that has every `step`-th one, as many as the slab is thick
  slices(step) {
    const { slab } = this.viewer.look;
    const half = slab / this.plane.depth_mm / 2;
    const last = Math.ceil(this.depth / step) - 1;
    const first = slab ? Math.ceil((this.index - half) / step) : Math.round(this.index / step);
    const end = slab ? Math.floor((this.index + half) / step) : first;
    return [clip(Math.min(first, end), 0, last), clip(Math.max(first, end), 0, last)];
  }

  get key() { return JSON.stringify([this.plane.axis, ...this.slices(1)]); }
  get detail() { return this.viewer.thinned ? this.viewer.details.get(this.key) : undefined; }
  forget() { this.made = {}; }

  // kept until what it was made of changes
  kept(name, key, act) {
    if (this.made[name]?.key !== key) this.made[name] = { key, value: act() };
    return this.made[name].value;
  }

  scanCut() {
    const part = this.slices(this.viewer.about.every[this.plane.axis]);
    return this.detail ?? this.kept("cut", part.join(), () => cut(this.viewer.scan, this.plane, ...part));
  }

  mapCut(number) {
    const part = this.slices(this.viewer.about.every[this.plane.axis]);
    return this.kept("map", [number, ...part].join(), () => cut(this.viewer.levels[number], this.plane, ...part));
  }

  paint() {
    const [width, height] = this.room, dpr = devicePixelRatio;
    if (!width || !height) return;
    const { canvas, viewer } = this, { look, about } = viewer;
    const pixels = [width, height].map((n) => Math.round(n * dpr));
    if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
    const context = brush(canvas);
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const { detail } = this;
    if (viewer.thinned && !detail) viewer.ask(this.key);
    const scan = this.scanCut();
    const invert = look.invert !== about.inverted;
    const grey = this.kept("grey", [this.key, !!detail, look.low, look.high, invert].join(), () => greyOf(scan, { ...look, invert }, about.padding));
    this.lay(context, grey, !detail);
    if (viewer.layer) {
      const key = [this.key, look.layer, look.alpha, look.threshold].join();
      const map = this.kept("hot", key, () => coloursOf(this.mapCut(look.layer), look, { colours: viewer.colours, gamma: about.gamma }));
      this.lay(context, map, true);
    }
    this.marks(context);
    canvas.dataset.slice = viewer.thinned && !detail ? `${this.key} thinned` : this.key;
  }

  // a picture where its voxels lie; of a thinned one each pixel stands around its voxel
  lay(context, picture, thin) {
    const steps = this.axes.map((axis) => (thin ? this.viewer.about.every[axis] : 1));
    const sizes = [picture.width, picture.height].map((n, k) => n * steps[k]);
    const starts = steps.map((step, n) => (this.flips[n] ? this.size[n] - 0.5 + step / 2 - sizes[n] : 0.5 - step / 2));
    const [x, y] = this.toScreen(starts), [right, bottom] = this.toScreen(starts.map((start, n) => start + sizes[n]));
    context.imageSmoothingEnabled = this.scale * Math.min(...this.mm.map((mm, n) => mm * steps[n])) * devicePixelRatio < VOXEL;
    context.drawImage(picture, x, y, right - x, bottom - y);
  }

  marks(context) {
    const [width, height] = this.room, [left, right, top, bottom] = this.plane.letters;
    const number = this.index + 1;
    this.cursorLines(context);
    this.line(context);
    word(context, left, 8, height / 2, "left");
    word(context, right, width - 8, height / 2, "right");
    word(context, top, width / 2, 14, "center");
    word(context, bottom, width / 2, height - 12, "center");
    word(context, `${number} / ${this.depth}`, width - 8, height - 12, "right");
    const length = BARS.findLast((mm) => mm * this.scale < width * 0.35) ?? 1;
    stroke(context, "#fff", [10, height - 10], [10 + length * this.scale, height - 10]);
    word(context, `${length} mm`, 10, height - 22, "left");
    this.canvas.setAttribute("aria-valuenow", number);
    this.canvas.setAttribute("aria-valuetext", `slice ${number} of ${this.depth}`);
  }

  // with a gap, so that what it points at is seen
  cursorLines(context) {
    const [x, y] = this.toScreen(this.cross), [width, height] = this.room;
    for (const [from, to] of [[[0, y], [x - 12, y]], [[x + 12, y], [width, y]], [[x, 0], [x, y - 12]], [[x, y + 12], [x, height]]])
      stroke(context, CURSOR, from, to, 1);
  }

  line(context) {
    const { line } = this.viewer.model.get("view");
    if (line?.pane !== this.number || line.index !== this.index) return;
    const [from, to] = line.ends.map((end) => this.toScreen(end));
    const mm = Math.hypot(...line.ends[0].map((value, n) => (value - line.ends[1][n]) * this.mm[n]));
    stroke(context, LINE, from, to);
    word(context, `${mm.toFixed(1)} mm`, to[0] + 8, to[1], "left");
    this.canvas.dataset.mm = mm.toFixed(2);
  }

  // the value under the pointer
  tell(place) {
    const { viewer } = this, { about } = viewer;
    const inside = place.every((value, n) => value >= 0 && value < this.size[n]);
    if (!viewer.scan || !inside) return viewer.hover("");
    const at = this.voxel(place);
    const value = this.valueAt(this.scanCut(), place, !this.detail);
    const parts = [`${+value.toFixed(value % 1 ? 2 : 0)} ${about.unit}`.trim()];
    if (viewer.layer) {
      const { low, high } = viewer.layer;
      const level = this.valueAt(this.mapCut(viewer.look.layer), place, true) / 255;
      parts.push(`map ${(low + level * (high - low)).toPrecision(3)}`);
    }
    const [L, P, S] = moved(about.affine, at);
    const side = (mm, plus, minus) => `${mm < 0 ? minus : plus} ${Math.abs(mm).toFixed(1)}`;
    parts.push(`voxel ${at.join(", ")}`, `${side(L, "L", "R")}, ${side(P, "P", "A")}, ${side(S, "S", "I")} mm`);
    viewer.hover(parts.join(" · "));
  }

  valueAt(picture, place, thin) {
    const sizes = [picture.width, picture.height];
    const [x, y] = place.map((value, n) => {
      const step = thin ? this.viewer.about.every[this.axes[n]] : 1;
      const index = Math.floor(value), last = sizes[n] - 1;
      const near = this.flips[n] ? last - Math.round((this.size[n] - 1 - index) / step) : Math.round(index / step);
      return clip(near, 0, last);
    });
    return picture.values[y * picture.width + x];
  }
}

function word(context, text, x, y, align) {
  context.font = "13px system-ui, sans-serif";
  Object.assign(context, { textAlign: align, textBaseline: "middle", lineWidth: 3, strokeStyle: "#000", fillStyle: "#fff", lineJoin: "round" });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function stroke(context, colour, from, to, lineWidth = 2) {
  Object.assign(context, { strokeStyle: colour, lineWidth });
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

export default {
  render({ model, el }) {
    let viewer = new Viewer(model, el);
    views.set(model, (views.get(model) ?? 0) + 1);
    return () => {
      viewer.remove();
      viewer = null; // anywidget keeps this function as long as the model
      views.set(model, views.get(model) - 1);
      // a moment, for a cell that is run again may show it again; else it lets its voxels go
      setTimeout(() => { if (!views.get(model)) try { model.send({ gone: true }); } catch { /* no kernel */ } }, 300);
    };
  },
};
