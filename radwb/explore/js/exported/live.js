// The heads of a film on a page without a kernel: below the picture that was seen last,
// from what radwb.explore.exported wrote beside it. Where no script runs, the picture
// stands alone.

const MOST_HEADS = 4096;

async function enliven(img) {
  if (img.nextElementSibling?.matches(".rx-live")) return;
  const { film, over, heads, shape, place, chosen, what } = img.dataset;
  const [layers, columns, rows, cols] = shape.split(" ").map(Number);
  if (!(layers * columns <= MOST_HEADS)) return;
  const sprite = await pictureOf(`data:image/png;base64,${heads}`);
  if (sprite.width !== columns * cols || sprite.height !== layers * rows) return;
  const [top, left, bottom, right, y0, x0, y1, x1] = place.split(" ").map(Number);
  const view = {
    layers,
    heads: columns - 1,
    tokens: [rows, cols],
    rows,
    cols,
    source: [top, left, bottom, right],
    square: [y0, x0, y1, x1],
    thumbs: new DataView(cut(sprite, layers, columns, rows, cols).buffer),
  };
  const [below, above] = await Promise.all([
    pictureOf(`data:image/jpeg;base64,${film}`),
    pictureOf(`data:image/png;base64,${over}`),
  ]);
  const [layer, head] = chosen.split(" ").map(Number);
  const first = { layer, head: head < 0 ? null : head };
  img.after(liveHeads(view, below, above, what, first));
}

function liveHeads(view, below, above, what, first) {
  const canvas = make("canvas", {
    className: "rx-scan",
    width: below.width,
    height: below.height,
    role: "img",
  });
  const label = make("p", { className: "rx-live-label" });
  const grid = make("div", {
    className: "rx-heads",
    role: "group",
    ariaLabel: "Attention of each layer and head",
  });
  const alpha = slider("Map", 0, 1, () => draw(shown));
  alpha.input.value = 0.75;
  const lut = bytes(new DataView(decoded(MIX.colours).buffer));
  const heads = headsInOrder(view, "");
  const cells = buildHeads(grid, view, heads, choose);
  let chosen = first,
    shown = first;

  function choose(one) {
    chosen = one;
    markChosen(cells, chosen);
    draw(chosen);
  }
  function draw(one) {
    shown = one;
    const cell = cells.find((c) => c.layer === one.layer && c.head === one.head);
    const pen = brush(canvas);
    pen.drawImage(below, 0, 0);
    pen.drawImage(mapOf(view, cell.place, canvas, +alpha.input.value, lut), 0, 0);
    pen.drawImage(above, 0, 0, canvas.width, canvas.height);
    const name = `Layer ${one.layer}, ${one.head === null ? "mean of heads" : `head ${one.head}`}`;
    label.textContent = `${name}: ${what}, each map up to its own maximum`;
    canvas.ariaLabel = label.textContent;
  }
  function pointed(event) {
    const cell = cells.find((c) => c.button.contains(event.target));
    if (cell) draw(cell);
  }
  grid.addEventListener("pointerover", pointed);
  grid.addEventListener("focusin", pointed);
  grid.addEventListener("pointerleave", () => draw(chosen));
  grid.addEventListener("keydown", (event) => {
    const at = cells.findIndex((cell) => cell.button === event.target);
    const by = arrowStep(event.key, grid);
    if (!by || at < 0) return;
    event.preventDefault();
    cells[at + by]?.button.focus();
  });
  paintHeads(cells, view, false, lut);
  choose(first);
  const how = make(
    "p",
    { className: "rx-live-how" },
    "Live without a kernel: point at a head, or step with the arrow keys; Enter or a " +
      "click keeps it. Other films, methods and words need the notebook.",
  );
  return make(
    "div",
    { className: "rx rx-live", role: "group", ariaLabel: "Heads of this film" },
    how,
    make("div", { className: "rx-live-film" }, label, canvas, alpha.root),
    make("div", { className: "rx-live-heads" }, grid),
  );
}

// The map as the widget lays it over the film: clear at its lowest value there.
function mapOf(view, place, { width, height }, alpha, lut) {
  const size = view.rows * view.cols;
  const own = bytes(view.thumbs).subarray(place * size, (place + 1) * size);
  const grid = new DataView(Float32Array.from(own).buffer);
  const values = spread({ ...view, grid }, middles(height), middles(width));
  const low = values.reduce((a, b) => Math.min(a, b)),
    high = values.reduce((a, b) => Math.max(a, b));
  const image = new ImageData(width, height);
  values.forEach((value, i) => {
    const level = (value - low) / (high - low || 1),
      step = 3 * Math.round(255 * level);
    image.data.set([lut[step], lut[step + 1], lut[step + 2]], 4 * i);
    image.data[4 * i + 3] = 255 * alpha * level ** MIX.gamma;
  });
  const canvas = make("canvas", { width, height });
  brush(canvas).putImageData(image, 0, 0);
  return canvas;
}

// The picture of all heads as their bytes, one head after the other.
function cut(sprite, layers, columns, rows, cols) {
  const canvas = make("canvas", { width: sprite.width, height: sprite.height });
  const pen = brush(canvas);
  pen.drawImage(sprite, 0, 0);
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const out = new Uint8Array(layers * columns * rows * cols);
  let at = 0;
  for (let layer = 0; layer < layers; layer++)
    for (let column = 0; column < columns; column++)
      for (let row = 0; row < rows; row++)
        for (let col = 0; col < cols; col++) {
          const y = layer * rows + row,
            x = column * cols + col;
          out[at++] = data[4 * (y * canvas.width + x)];
        }
  return out;
}

async function pictureOf(address) {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  return picture;
}

function decoded(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// Only what is looked at: a picture below a widget that lives is hidden. Of a cell its
// own script asks; a page of the gallery has one script for all.
function watchPictures() {
  const still = document.currentScript?.closest(".radwb-still");
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      enliven(target).catch(() => {}); // unreadable: the picture stands
    }
  });
  const images = (still ?? document).querySelectorAll(".radwb-still img[data-heads]");
  images.forEach((img) => watcher.observe(img));
}

watchPictures();
