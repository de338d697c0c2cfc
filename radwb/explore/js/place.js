// Where things lie: fractions of the film, of the canvas, and the patches of the grid.
//
// `look.place` is [x, y, zoom]: the film's point in the canvas's middle, and how much
// larger than fitted the film is.

// The look with all its parts, whatever an older state has left out.
function looks(model) {
  return {
    invert: false,
    threshold: 0,
    contours: false,
    scale: "own",
    range: null,
    place: [0.5, 0.5, 1],
    ...model.get("look"),
  };
}

// No nearer than 16 css px a film's pixel, no further than fitted, never off the film.
function within([x, y, zoom], scan, wide) {
  const cols = scan.full?.[1] ?? scan.cols;
  const near = Math.min(Math.max(1, zoom), Math.max(4, (16 * cols) / wide));
  const half = 0.5 / near;
  const clip = (at) => Math.min(1 - half, Math.max(half, at));
  return [clip(x), clip(y), near];
}

// Fractions of the film -> px of the canvas.
function onCanvas([x, y, zoom], canvas, u, v) {
  return [
    ((u - x) * zoom + 0.5) * canvas.width,
    ((v - y) * zoom + 0.5) * canvas.height,
  ];
}

// An event's place -> fractions of the film.
function onFilm([x, y, zoom], canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [
    x + ((event.clientX - box.left) / box.width - 0.5) / zoom,
    y + ((event.clientY - box.top) / box.height - 0.5) / zoom,
  ];
}

// Nearer or further by a factor, with the film's point (u, v) staying where it is.
function zoomed([x, y, zoom], factor, u, v, scan, wide) {
  const near = within([x, y, zoom * factor], scan, wide)[2];
  const keep = zoom / near;
  return within([u + (x - u) * keep, v + (y - v) * keep, near], scan, wide);
}

// Fractions of the model's square -> fractions of the film.
function fromSquare(view, x, y) {
  const [top, left, bottom, right] = view.source,
    [y0, x0, y1, x1] = view.square;
  return [
    left + ((x - x0) / (x1 - x0)) * (right - left),
    top + ((y - y0) / (y1 - y0)) * (bottom - top),
  ];
}

// The corners of a patch, as fractions of the film: left, top, right, bottom.
function patchBox(view, patch) {
  const [rows, cols] = view.tokens,
    row = Math.floor(patch / cols),
    col = patch % cols;
  return [
    ...fromSquare(view, col / cols, row / rows),
    ...fromSquare(view, (col + 1) / cols, (row + 1) / rows),
  ];
}

// Fractions of the film -> the number of the patch, or null outside of what the model saw.
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

// The patches whose middle lies in a closed path of film fractions; else the one under
// the path's middle.
function patchesIn(view, path) {
  const found = [];
  for (let patch = 0; patch < view.tokens[0] * view.tokens[1]; patch++) {
    const [left, top, right, bottom] = patchBox(view, patch);
    if (encloses(path, (left + right) / 2, (top + bottom) / 2)) found.push(patch);
  }
  if (found.length) return found;
  const mean = (axis) => path.reduce((sum, p) => sum + p[axis], 0) / path.length;
  const one = patchAt(view, mean(0), mean(1));
  return one === null ? [] : [one];
}

// By the number of edges that a ray to the right crosses.
function encloses(path, x, y) {
  let inside = false;
  path.forEach(([x1, y1], i) => {
    const [x0, y0] = path[(i || path.length) - 1];
    if (y0 > y !== y1 > y && x < x0 + ((y - y0) / (y1 - y0)) * (x1 - x0))
      inside = !inside;
  });
  return inside;
}
