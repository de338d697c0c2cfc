// The scan with its map.

function film(canvas, model, n) {
  const ground = document.createElement("canvas");
  let known = null,
    level = null,
    drawn = [];

  function draw(view) {
    const scan = model.get("scan"),
      look = model.get("look");
    if (!scan.pixels) return void (canvas.width = canvas.height = 0); // it couldn't be read
    const longest = model.get("panes").length > 1 ? 400 : 480,
      ratio = window.devicePixelRatio || 1;
    const now = [
      canvas.width,
      view.grid,
      view.choice?.patch,
      view.finding,
      scan,
      look,
      longest,
      ratio,
    ];
    if (now.every((part, i) => part === drawn[i])) return; // a picture costs more than all else
    const [w, h] =
      scan.aspect > 1
        ? [longest / scan.aspect, longest]
        : [longest, longest * scan.aspect];
    Object.assign(canvas, {
      width: Math.round(w * ratio),
      height: Math.round(h * ratio),
    });
    drawn = [canvas.width, ...now.slice(1)];
    canvas.style.width = `${w}px`;
    canvas.style.aspectRatio = `${w} / ${h}`;
    if (known !== view.grid)
      [known, level] = [
        view.grid,
        view.grid ? levels(view, scan.rows, scan.cols) : null,
      ];
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
  const grid = new Float32Array(
    view.grid.buffer.slice(
      view.grid.byteOffset,
      view.grid.byteOffset + view.grid.byteLength,
    ),
  );
  const [top, left, bottom, right] = view.source,
    [y0, x0, y1, x1] = view.square;
  const place = (count, from, to, a, b, cells) =>
    Array.from({ length: count }, (_, i) => {
      const along = ((i + 0.5) / count - from) / (to - from);
      if (along < 0 || along > 1) return null; // outside of the crop that the model saw
      const at = Math.min(Math.max((a + along * (b - a)) * cells - 0.5, 0), cells - 1),
        low = Math.min(Math.floor(at), cells - 2);
      return cells < 2 ? [0, 0, 0] : [low, low + 1, at - low];
    });
  const ys = place(rows, top, bottom, y0, y1, view.rows),
    xs = place(cols, left, right, x0, x1, view.cols);
  const out = new Float32Array(rows * cols);
  let min = Infinity,
    max = -Infinity;
  for (let r = 0, i = 0; r < rows; r++)
    for (let c = 0; c < cols; c++, i++) {
      const y = ys[r],
        x = xs[c];
      if (y && x) {
        const line = (row) =>
          grid[row * view.cols + x[0]] * (1 - x[2]) +
          grid[row * view.cols + x[1]] * x[2];
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
  const grey = bytes(scan.pixels),
    image = new ImageData(scan.cols, scan.rows);
  const shade = Float32Array.from(
    { length: 256 },
    (_, v) =>
      255 *
      Math.min(
        1,
        Math.max(0, (v / 255 - look.level) / Math.max(look.window, least_window) + 0.5),
      ),
  );
  const alphas = Float32Array.from(
    { length: 256 },
    (_, v) => (v / 255) ** gamma * look.alpha,
  );
  for (let i = 0; i < grey.length; i++) {
    const base = shade[grey[i]],
      step = level ? Math.round(level[i] * 255) : 0,
      alpha = level ? alphas[step] : 0;
    for (let k = 0; k < 3; k++)
      image.data[4 * i + k] = base * (1 - alpha) + lut[3 * step + k] * alpha;
    image.data[4 * i + 3] = 255;
  }
  brush(ground).putImageData(image, 0, 0);
}

function outlines(pen, scan, asked, ratio) {
  for (const [finding, { lines, colour }] of Object.entries(scan.truth)) {
    const at = new Float32Array(
      lines.buffer.slice(lines.byteOffset, lines.byteOffset + lines.byteLength),
    );
    const { width: W, height: H } = pen.canvas;
    pen.beginPath();
    for (let i = 0; i < at.length; i += 4) {
      pen.moveTo(at[i] * W, at[i + 1] * H);
      pen.lineTo(at[i + 2] * W, at[i + 3] * H);
    }
    const width = (finding === asked ? 2.5 : 1.2) * ratio;
    for (const [strokeStyle, lineWidth] of [
      ["rgba(0,0,0,0.55)", width + 2 * ratio],
      [colour, width],
    ]) {
      // seen on white too
      Object.assign(pen, { strokeStyle, lineWidth, lineCap: "round" });
      pen.stroke();
    }
  }
}

function marked(pen, view, ratio) {
  const [rows, cols] = view.tokens,
    row = Math.floor(view.choice.patch / cols),
    col = view.choice.patch % cols;
  const [x0, y0] = toCanvas(view, pen.canvas, col / cols, row / rows);
  const [x1, y1] = toCanvas(view, pen.canvas, (col + 1) / cols, (row + 1) / rows);
  for (const [colour, width] of [
    ["black", 4],
    ["white", 2],
  ]) {
    Object.assign(pen, { strokeStyle: colour, lineWidth: width * ratio });
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}

function toCanvas(view, canvas, x, y) {
  const [top, left, bottom, right] = view.source,
    [y0, x0, y1, x1] = view.square;
  return [
    (left + ((x - x0) / (x1 - x0)) * (right - left)) * canvas.width,
    (top + ((y - y0) / (y1 - y0)) * (bottom - top)) * canvas.height,
  ];
}

// x, y as fractions of the canvas -> the number of the patch, or null outside of what the model saw
function patchAt(view, x, y) {
  const [top, left, bottom, right] = view.source,
    [y0, x0, y1, x1] = view.square,
    [rows, cols] = view.tokens;
  const u = x0 + ((x - left) / (right - left)) * (x1 - x0),
    v = y0 + ((y - top) / (bottom - top)) * (y1 - y0);
  const inside = x >= left && x <= right && y >= top && y <= bottom;
  return inside
    ? Math.min(rows - 1, Math.floor(v * rows)) * cols +
        Math.min(cols - 1, Math.floor(u * cols))
    : null;
}

// The letter at an edge of the picture: in its upper corner, or in its middle.
function mark(pen, text, edge, { right_mark, right_inset, right_size }, ratio) {
  const [across, down] = right_mark[edge],
    inset = right_inset * ratio,
    size = right_size * ratio;
  const x = inset + across * (pen.canvas.width - 2 * inset);
  const y = down ? pen.canvas.height - inset : inset + 0.875 * size; // of the line that the letter stands on
  pen.font = `600 ${size}px system-ui, sans-serif`;
  const textAlign = { 0: "left", 1: "right" }[across] ?? "center";
  Object.assign(pen, {
    fillStyle: "white",
    strokeStyle: "black",
    lineWidth: 3 * ratio,
    textAlign,
  });
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}
