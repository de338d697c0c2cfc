// The film with its map: what is seen of it, at the pixels of the canvas.

function film(model, n, choose, tools) {
  const canvas = make("canvas", { className: "rx-scan", tabIndex: 0, role: "img" });
  const reading = make("div", { className: "rx-reading" });
  const scale = colourBar(model);
  const root = make(
    "div",
    { className: "rx-viewport" },
    canvas,
    make("div", { className: "rx-under" }, scale.root, reading),
  );
  const self = { root, canvas, n, view: {}, draw, redraw, picture, range, read };
  const [grey, values, steps, lines, whole, chains] = Array.from({ length: 6 }, kept);

  // The canvas's size in px, its width in css px, and px a css px.
  function size(scan) {
    const longest = tools.longest();
    const [wide, tall] =
      scan.aspect > 1
        ? [longest / scan.aspect, longest]
        : [longest, longest * scan.aspect];
    canvas.style.width = `${wide}px`;
    canvas.style.aspectRatio = `${wide} / ${tall}`;
    const css = canvas.clientWidth || wide,
      ratio = window.devicePixelRatio || 1;
    const W = Math.max(1, Math.round(css * ratio)),
      H = Math.max(1, Math.round(((css * tall) / wide) * ratio));
    if (canvas.width !== W || canvas.height !== H)
      Object.assign(canvas, { width: W, height: H });
    return { W, H, css, ratio };
  }

  // What is seen under all lines, as RGBA bytes; `bare`: without the map.
  function picture(bare) {
    const scan = model.get("scan"),
      look = looks(model),
      { mix } = model.get("about"),
      { W, H, css, ratio } = size(scan);
    const place = within(look.place, scan, css),
      from = tools.pixels(scan, W * place[2]);
    const sharp = (css * place[2]) / from.cols >= mix.sharp;
    const scanned = grey([from.pixels, ...place, H, W, sharp], () =>
      sampled(from, place, H, W, sharp),
    );
    if (bare || !self.view.grid) return mixed(scanned, null, null, W, look, mix);
    const mapped = levels(place, H, W);
    const drawn = look.contours ? curves(place, H, W, ratio, mix) : null;
    const { window: wide, level, invert, alpha, threshold } = look;
    return whole([scanned, mapped, drawn, wide, level, invert, alpha, threshold], () =>
      mixed(scanned, mapped, drawn, W, look, mix),
    );
  }

  function mapValues(place, H, W) {
    const [x, y, zoom] = place;
    return values([self.view.grid, ...place, H, W], () =>
      spread(self.view, middles(H, y, zoom), middles(W, x, zoom)),
    );
  }

  function levels(place, H, W) {
    const raw = mapValues(place, H, W),
      [low, high] = range();
    return steps([raw, low, high], () => stepsOf(raw, low, high));
  }

  function curves(place, H, W, ratio, mix) {
    const raw = mapValues(place, H, W);
    return lines([raw], () => {
      const shares = mix.contours.map(([share]) => share);
      const half = (mix.contour_width / 2) * ratio,
        edge = mix.contour_edge * ratio;
      return contours(raw, H, W, percentiles(self.view, shares), half, edge);
    });
  }

  // The map's values that the colours' ends stand for: its extremes on the whole film.
  function range() {
    const { grid, low, high } = self.view,
      look = looks(model);
    if (!grid) return null;
    return look.scale === "shared" && look.range ? look.range : [low, high];
  }

  function draw(view) {
    self.view = view;
    redraw();
    self.answered(view);
  }

  function redraw() {
    const scan = model.get("scan"),
      { view } = self;
    root.hidden = !scan.pixels;
    if (!scan.pixels) return void (canvas.width = canvas.height = 0); // it couldn't be read
    const other = tools.films[1 - n],
      aside = () => (other ? other.picture() : picture(true));
    const shown = tools.hidden() ? aside() : picture(false);
    const pen = brush(canvas),
      look = looks(model),
      ratio = window.devicePixelRatio || 1;
    pen.putImageData(shown, 0, 0);
    if (tools.swipe !== null) swiped(pen, aside(), tools.swipe, ratio);
    const place = within(look.place, scan, canvas.clientWidth || canvas.width);
    if (look.truth) {
      const paths = chains([scan], () => joined(scan.truth));
      outlines(pen, place, scan.truth, paths, view.finding, ratio);
    }
    if (view.choice?.patch != null) marked(pen, place, view, view.choice.patch, ratio);
    tools.drawOn(pen, place, scan, self, ratio);
    letters(pen, scan, model.get("about").mix, ratio);
    ruler(pen, place, scan, ratio);
    scale.update(range(), look);
    Object.assign(canvas.dataset, { zoom: place[2].toFixed(2) });
  }

  // What lies under a point of the film, and the line that was measured, in words.
  function read(u, v) {
    const scan = model.get("scan"),
      { line } = tools;
    const words = [];
    if (u !== null && scan.pixels)
      words.push(underPoint(scan, tools.pixels(scan, 0), self.view, u, v));
    if (line?.case === scan.case) words.push(`line ${inWords(scan, line.ends)}`);
    reading.textContent = words.join(" · ");
  }

  gestures(self, model, n, choose, tools);
  tools.films.length = n; // those of panes that are gone
  tools.films.push(self);
  new ResizeObserver(redraw).observe(canvas);
  return self;
}

// Each value's place between the lowest and the highest, as a colour's number.
function stepsOf(values, low, high) {
  const out = new Uint8ClampedArray(values.length),
    share = 255 / (high - low || 1);
  for (let i = 0; i < values.length; i++) out[i] = (values[i] - low) * share;
  return out;
}

// As radwb.show.mix.blend does: the windowed scan under the map's colours, clear where
// the map is low. A table over both bytes, since a pixel is then one look-up.
function mixed(grey, steps, lines, W, look, mix) {
  const lut = bytes(mix.colours),
    table = new Uint32Array(steps ? 65536 : 256);
  const shade = shades(look, mix);
  for (let step = 0; step < table.length / 256; step++) {
    const colour = step / 255;
    const clear = lines || !steps || colour < look.threshold,
      share = clear ? 0 : colour ** mix.gamma * look.alpha;
    const [r, g, b] = [0, 1, 2].map((k) => lut[3 * step + k] * share);
    for (let v = 0; v < 256; v++) {
      const base = shade[v] * (1 - share) + 0.5;
      table[256 * step + v] =
        (255 << 24) | ((base + b) << 16) | ((base + g) << 8) | (base + r);
    }
  }
  const image = new ImageData(W, grey.length / W),
    out = new Uint32Array(image.data.buffer);
  if (steps)
    for (let i = 0; i < out.length; i++) out[i] = table[(steps[i] << 8) | grey[i]];
  else for (let i = 0; i < out.length; i++) out[i] = table[grey[i]];
  if (lines)
    drawContours(
      image.data,
      lines,
      lut,
      mix.contours.map(([, step]) => step),
      look.alpha,
    );
  return image;
}

function shades({ window, level, invert }, { least_window }) {
  return Float32Array.from({ length: 256 }, (_, v) => {
    const shown = (v / 255 - level) / Math.max(window, least_window) + 0.5;
    const clipped = 255 * Math.min(1, Math.max(0, shown));
    return invert ? 255 - clipped : clipped;
  });
}

// {finding: paths of film fractions}: the pieces of an outline, end to end, since a dash
// needs a line that goes on.
function joined(truth) {
  const each = Object.entries(truth || {});
  return Object.fromEntries(each.map(([name, { lines }]) => [name, chained(lines)]));
}

function chained(lines) {
  const at = floats(lines),
    ends = new Map(),
    used = new Set(),
    paths = [];
  const point = (end) => [at[2 * end], at[2 * end + 1]];
  for (let end = 0; end < at.length / 2; end++) {
    const name = point(end).join();
    ends.set(name, [...(ends.get(name) ?? []), end]);
  }
  for (let piece = 0; piece < at.length / 4; piece++) {
    if (used.has(piece)) continue;
    let end = 2 * piece;
    const path = [point(end)];
    while (end !== undefined) {
      used.add(end >> 1);
      path.push(point(end ^ 1)); // a piece's other end
      end = ends.get(point(end ^ 1).join()).find((next) => !used.has(next >> 1));
    }
    paths.push(path);
  }
  return paths;
}

function outlines(pen, place, truth, paths, asked, ratio) {
  for (const [finding, { colour, dash }] of Object.entries(truth)) {
    pen.beginPath();
    for (const path of paths[finding])
      path.forEach(([u, v], i) => {
        const [x, y] = onCanvas(place, pen.canvas, u, v);
        if (i) pen.lineTo(x, y);
        else pen.moveTo(x, y);
      });
    const width = (finding === asked ? 2.5 : 1.2) * ratio;
    const dashes = (dash ?? []).map((length) => length * ratio);
    stroke(pen, colour, width, dashes);
  }
}

// A line that is seen on white, too.
function stroke(pen, colour, width, dash = []) {
  Object.assign(pen, { lineCap: "round", lineJoin: "round" });
  pen.setLineDash([]);
  Object.assign(pen, { strokeStyle: "rgba(0,0,0,0.55)", lineWidth: width * 1.9 });
  pen.stroke();
  pen.setLineDash(dash);
  Object.assign(pen, { strokeStyle: colour, lineWidth: width });
  pen.stroke();
  pen.setLineDash([]);
}

// One patch or the outer edges of many.
function marked(pen, place, view, patch, ratio) {
  const all = new Set([patch].flat()),
    [rows, cols] = view.tokens;
  pen.beginPath();
  for (const one of all) {
    const [left, top, right, bottom] = patchBox(view, one),
      row = Math.floor(one / cols),
      col = one % cols;
    const edges = [
      [row > 0 && all.has(one - cols), left, top, right, top],
      [row < rows - 1 && all.has(one + cols), left, bottom, right, bottom],
      [col > 0 && all.has(one - 1), left, top, left, bottom],
      [col < cols - 1 && all.has(one + 1), right, top, right, bottom],
    ];
    for (const [shared, x0, y0, x1, y1] of edges)
      if (!shared) {
        pen.moveTo(...onCanvas(place, pen.canvas, x0, y0));
        pen.lineTo(...onCanvas(place, pen.canvas, x1, y1));
      }
  }
  stroke(pen, "white", 2 * ratio);
}
