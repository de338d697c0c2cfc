// The film and the map at the pixels of the canvas. Only what is seen is computed.

// A place for one value, made again when a part of its key is another.
function kept() {
  let before = null,
    value;
  return (key, make) => {
    if (!before || key.some((part, i) => part !== before[i])) value = make();
    before = key;
    return value;
  };
}

// Bytes (rows, cols) at the (H, W) pixels of the canvas, as Pillow's BILINEAR with a box
// does it: a triangle as wide as a pixel of the coarser of the two. Beyond 4 css px a
// pixel of the film: its pixels as they are.
function sampled({ pixels, rows, cols }, [x, y, zoom], H, W, sharp) {
  const grey = bytes(pixels),
    across = taps(W, (x - 0.5 / zoom) * cols, cols / zoom, cols, sharp),
    down = taps(H, (y - 0.5 / zoom) * rows, rows / zoom, rows, sharp);
  const first = down[0].from,
    last = down[H - 1].from + down[H - 1].weights.length;
  const lines = new Float32Array((last - first) * W);
  for (let row = first; row < last; row++)
    for (let i = 0, at = (row - first) * W; i < W; i++, at++) {
      const { from, weights } = across[i],
        start = row * cols + from;
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * grey[start + k];
      lines[at] = sum;
    }
  const out = new Uint8ClampedArray(H * W);
  const line = new Float32Array(W);
  for (let j = 0; j < H; j++) {
    const { from, weights } = down[j];
    line.fill(0);
    for (let k = 0; k < weights.length; k++) {
      const start = (from - first + k) * W,
        weight = weights[k];
      for (let i = 0; i < W; i++) line[i] += weight * lines[start + i];
    }
    out.set(line, j * W); // rounded and clipped
  }
  return out;
}

// For each of `count` pixels of the canvas: the film's first pixel, and its weights.
function taps(count, start, length, n, sharp) {
  const step = length / count,
    reach = Math.max(1, step);
  return Array.from({ length: count }, (_, i) => {
    const centre = start + (i + 0.5) * step;
    if (sharp)
      return { from: Math.min(n - 1, Math.max(0, Math.floor(centre))), weights: [1] };
    const from = Math.min(n - 1, Math.max(0, Math.floor(centre - reach + 0.5))),
      to = Math.max(from + 1, Math.min(n, Math.floor(centre + reach + 0.5)));
    const raw = Array.from({ length: to - from }, (_, k) =>
      Math.max(1e-9, 1 - Math.abs(from + k + 0.5 - centre) / reach),
    );
    const sum = raw.reduce((a, b) => a + b);
    return { from, weights: raw.map((weight) => weight / sum) };
  });
}

// A function of (row fraction, column fraction) lists: the grid between its tokens'
// centres, as rw.data.to_scan spreads it, at each of their pairs; 0 outside of the crop
// that the model saw.
function spread(view, ys, xs) {
  const grid = floats(view.grid),
    [top, left, bottom, right] = view.source,
    [y0, x0, y1, x1] = view.square;
  const rows = ys.map((at) => between(at, top, bottom, y0, y1, view.rows)),
    cols = xs.map((at) => between(at, left, right, x0, x1, view.cols));
  const out = new Float32Array(rows.length * cols.length);
  for (let r = 0, i = 0; r < rows.length; r++)
    for (let c = 0; c < cols.length; c++, i++) {
      const y = rows[r],
        x = cols[c];
      if (!y || !x) continue;
      const upper = y[0] * view.cols,
        lower = y[1] * view.cols,
        share = x[2];
      const a = grid[upper + x[0]] * (1 - share) + grid[upper + x[1]] * share,
        b = grid[lower + x[0]] * (1 - share) + grid[lower + x[1]] * share;
      out[i] = a * (1 - y[2]) + b * y[2];
    }
  return out;
}

// One axis: the two cells at a fraction of the film, and how far it is to the second.
function between(fraction, from, to, a, b, cells) {
  const along = (fraction - from) / (to - from);
  if (along < 0 || along > 1) return null; // outside of the crop that the model saw
  if (cells < 2) return [0, 0, 0];
  const at = Math.min(Math.max((a + along * (b - a)) * cells - 0.5, 0), cells - 1),
    low = Math.min(Math.floor(at), cells - 2);
  return [low, low + 1, at - low];
}

// The middles of `count` pixels, as fractions of the film.
function middles(count, centre = 0.5, zoom = 1) {
  return Array.from(
    { length: count },
    (_, i) => centre + ((i + 0.5) / count - 0.5) / zoom,
  );
}
