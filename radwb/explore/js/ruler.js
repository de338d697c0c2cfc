// Lengths on the film and values under the pointer.

// A film's pixel in mm, or in px where the millimetres aren't known: [down, across, unit].
function units(scan) {
  const [rows, cols] = scan.full ?? [scan.rows, scan.cols];
  return scan.mm ? [...scan.mm, "mm"] : [rows, cols, "px"];
}

// A bar at the lower edge, of the longest round length within a quarter of the canvas.
function ruler(pen, [, , zoom], scan, ratio) {
  if (!scan.mm) return;
  const { width: W, height: H } = pen.canvas,
    mm = scan.mm[1] / (zoom * W); // of a px of the canvas
  const length = round(mm * (W / 4)),
    wide = length / mm,
    inset = 10 * ratio,
    y = H - inset;
  const x = W - inset - wide;
  pen.beginPath();
  for (const [x0, y0, x1, y1] of [
    [x, y, x + wide, y],
    [x, y - 5 * ratio, x, y],
    [x + wide, y - 5 * ratio, x + wide, y],
  ]) {
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
  }
  stroke(pen, "white", 1.5 * ratio);
  say(pen, `${length} mm`, x + wide / 2, y - 8 * ratio, 12 * ratio, "center");
}

// The largest of 1, 2, 5, 10, ... that isn't above.
function round(length) {
  const power = 10 ** Math.floor(Math.log10(length));
  const times = [5, 2, 1].find((n) => n * power <= length * (1 + 1e-9));
  return +(times * power).toPrecision(1);
}

function inWords(scan, [[u0, v0], [u1, v1]]) {
  const [down, across, unit] = units(scan);
  const length = Math.hypot((u1 - u0) * across, (v1 - v0) * down);
  return `${length.toFixed(unit === "mm" ? 1 : 0)} ${unit}`;
}

function measured(pen, place, scan, ends, ratio) {
  const [a, b] = ends.map(([u, v]) => onCanvas(place, pen.canvas, u, v));
  pen.beginPath();
  pen.moveTo(...a);
  pen.lineTo(...b);
  for (const [x, y] of [a, b]) {
    pen.moveTo(x + 3 * ratio, y);
    pen.arc(x, y, 3 * ratio, 0, 2 * Math.PI);
  }
  stroke(pen, "#ffd43b", 1.5 * ratio);
  const text = inWords(scan, ends);
  const [x, y] = b[0] > a[0] ? b : a;
  const right = x > pen.canvas.width - 70 * ratio;
  const aside = (right ? -8 : 8) * ratio;
  say(pen, text, x + aside, y - 6 * ratio, 13 * ratio, right ? "right" : "left");
}

function drawnPath(pen, place, points, ratio) {
  pen.beginPath();
  points.forEach(([u, v], i) => {
    const at = onCanvas(place, pen.canvas, u, v);
    if (i) pen.lineTo(...at);
    else pen.moveTo(...at);
  });
  pen.closePath();
  stroke(pen, "white", 1.5 * ratio, [5 * ratio, 4 * ratio]);
}

// White letters that are seen on white.
function say(pen, text, x, y, size, textAlign) {
  pen.font = `600 ${size}px system-ui, sans-serif`;
  Object.assign(pen, { fillStyle: "white", strokeStyle: "black", textAlign });
  Object.assign(pen, { lineWidth: size / 5, lineJoin: "round" });
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}

// Where the pointer is, the film's grey there, and the map's value.
function underPoint(scan, from, view, u, v) {
  const [rows, cols] = scan.full ?? [scan.rows, scan.cols];
  const at = (share, n) => Math.min(n - 1, Math.max(0, Math.floor(share * n)));
  const byte = bytes(from.pixels)[at(v, from.rows) * from.cols + at(u, from.cols)];
  const [low, high, unit] = scan.grey ?? [0, 1, ""];
  const grey = number(low + (byte / 255) * (high - low), high - low);
  const words = [
    `row ${at(v, rows)}, column ${at(u, cols)}`,
    `grey ${grey} ${unit}`.trim(),
  ];
  if (view.grid) words.push(`map ${short(spread(view, [v], [u])[0])}`);
  return words.join(" · ");
}

// No more digits than a byte can know.
function number(value, range) {
  return range > 255 ? value.toFixed(0) : value.toPrecision(2);
}

function short(value) {
  const small = value && Math.abs(value) < 0.001;
  return small ? value.toExponential(1) : `${+value.toPrecision(2)}`;
}

// The colours with the map's values at their ends, under each film.
function colourBar(model) {
  const canvas = make("canvas", { className: "rx-scale", width: 128, height: 1 }),
    low = make("span"),
    high = make("span");
  const root = make("div", { className: "rx-values", role: "img" }, low, canvas, high);
  const ramp = Uint8Array.from({ length: 128 }, (_, i) => 2 * i);

  function update(range, look) {
    root.hidden = !range;
    if (!range) return;
    const values = range.map(short);
    [low.textContent, high.textContent] = values;
    root.ariaLabel = `Colours from ${values[0]} to ${values[1]}`;
    root.title = look.scale === "shared" ? "The same for all films" : "This map's own";
    const from = look.contours ? 0 : look.threshold;
    canvas.style.clipPath = `inset(0 0 0 ${100 * from}%)`;
  }
  paint(canvas, colours(model), ramp);
  return { root, update };
}
