// The grid of heads: a column of means, then a column a head, a row a layer; or all
// heads in the order of a measure.

function headGrid(model, n, choose) {
  const grid = make("div", {
    className: "rx-heads",
    role: "group",
    ariaLabel: "Attention of each layer and head",
  });
  const tools = headTools(model, n, choose);
  const root = make("div", { className: "rx-headbox" }, tools.root, grid);
  let cells = [];
  let built = "";
  let drawn = [];

  grid.onkeydown = (event) => {
    const at = cells.findIndex((cell) => cell.button === event.target);
    const by = arrowStep(event.key, grid);
    if (!by || at < 0) return;
    event.preventDefault();
    cells[at + by]?.button.focus();
  };

  function update(view, now) {
    const waits = view.case === undefined && !model.get("scan").error;
    root.hidden = waits ? !built : !view.thumbs;
    tools.update(view);
    if (root.hidden) return void (built = "");
    const { measure, common } = model.get("look");
    if (view.thumbs) {
      const heads = headsInOrder(view, measure);
      const shape = JSON.stringify([view.tokens, heads]);
      if (shape !== built) {
        cells = buildHeads(grid, view, heads, choose);
        drawn = [];
      }
      built = shape;
    }
    if (drawn[0] !== view.thumbs || drawn[1] !== common)
      paintHeads(cells, view, common, colours(model));
    drawn = [view.thumbs, common];
    markChosen(cells, chosenHead(model, view, now));
  }
  return { root, update, leave: tools.leave };
}

// {layer, head, value} of each; head null is the mean over a layer's heads.
function headsInOrder({ layers, heads, measures }, measure) {
  const all = Array.from({ length: layers * (heads + 1) }, (_, i) => ({
    layer: Math.floor(i / (heads + 1)),
    head: i % (heads + 1) ? (i % (heads + 1)) - 1 : null,
  }));
  const values = measures?.[measure];
  if (!values) return all;
  return all
    .filter(({ head }) => head !== null)
    .map((one) => ({ ...one, value: values[one.layer][one.head + 1], measure }))
    .sort((a, b) => b.value - a.value);
}

function buildHeads(grid, view, heads, choose) {
  const columns = view.heads + 1;
  const sorted = heads[0]?.measure !== undefined;
  const cells = heads.map((one) => headCell(one, view, choose));
  const children = cells.map((cell) => (sorted ? cell.captioned : cell.button));
  if (!sorted) {
    const names = ["", "mean", ...Array(view.heads).keys()];
    for (let layer = view.layers - 1; layer >= 0; layer--)
      children.splice(layer * columns, 0, make("span", {}, `${layer}`));
    children.unshift(...names.map((name) => make("span", {}, `${name}`)));
  }
  grid.style.setProperty("--columns", columns);
  grid.classList.toggle("rx-sorted", sorted);
  grid.replaceChildren(...children);
  return cells;
}

function headCell({ layer, head, value, measure }, { tokens, heads }, choose) {
  const name = `layer ${layer}, ${head === null ? "mean of heads" : `head ${head}`}`;
  const canvas = make("canvas", { width: tokens[1], height: tokens[0] });
  const one = button("", name, () => choose({ layer, head }));
  one.replaceChildren(canvas);
  if (measure) one.title = one.ariaDescription = `${name}: ${measure} ${figure(value)}`;
  const captioned = make("span", {}, one, make("small", {}, `${layer}.${head}`));
  const place = layer * (heads + 1) + (head === null ? 0 : head + 1);
  return { layer, head, place, canvas, button: one, captioned };
}

function paintHeads(cells, view, common, lut) {
  const size = view.thumbs && view.tokens[0] * view.tokens[1];
  const thumbs = view.thumbs && bytes(view.thumbs);
  const highest = common && view.highest ? floats(view.highest) : null;
  const most = highest?.reduce((a, b) => Math.max(a, b), 1e-12);
  for (const { canvas, place } of cells) {
    if (!thumbs) {
      brush(canvas).clearRect(0, 0, canvas.width, canvas.height);
      continue;
    }
    const own = thumbs.subarray(place * size, (place + 1) * size);
    const share = highest ? highest[place] / most : 1;
    paint(canvas, lut, highest ? own.map((v) => Math.round(v * share)) : own);
  }
}

function chosenHead(model, { layers }, now) {
  if (!model.get("about").of_head.includes(now.method)) return {};
  return { layer: now.layer ?? layers - 1, head: now.head };
}

// One stop for the Tab key; arrows go on.
function markChosen(cells, { layer, head }) {
  const at = cells.findIndex((cell) => cell.layer === layer && cell.head === head);
  cells.forEach((cell, i) => {
    cell.button.ariaPressed = i === at;
    cell.button.tabIndex = i === Math.max(0, at) ? 0 : -1;
  });
}

function arrowStep(key, grid) {
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const down = grid.classList.contains("rx-sorted") ? columns : columns - 1;
  return { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -down, ArrowDown: down }[key];
}

function headTools(model, n, choose) {
  const title = make("span", { className: "rx-head-title" });
  const order = choice("Order", [""], (value) => setLook(model, { measure: value }));
  const common = press(
    "Common scale",
    "All heads on one scale; else each is as bright as its own maximum",
    (on) => setLook(model, { common: on }),
  );
  const film = layerFilm(model, n, choose);
  const root = make(
    "div",
    { className: "rx-headtools" },
    title,
    film.root,
    common,
    order.root,
  );
  function update(view) {
    const { measure = "", common: together = false } = model.get("look");
    if (view.thumbs) {
      const names = ["", ...Object.keys(view.measures || {})];
      options(order.input, names, (name) => name || "as in the network");
      order.root.hidden = names.length === 1;
      common.hidden = !view.highest;
      order.input.value = names.includes(measure) ? measure : "";
      const by = order.input.value;
      write(title, by ? `layer.head, most ${by} first` : "layer ↓ head →");
    }
    common.ariaPressed = together;
    film.update();
  }
  return { root, update, leave: film.stop };
}

// The layers one after the other, each when the one before is drawn.
function layerFilm(model, n, choose) {
  let timer = 0;
  let at = null;
  const play = press("▷ Layers", "Show the layers one after the other", (on) =>
    on ? start() : stop(),
  );

  function start() {
    at = 0;
    choose({ layer: at });
    timer = setInterval(next, 700);
    update();
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
    update();
  }
  function next() {
    const { choice: shown, layers } = freshView(model, n);
    const wish = model.get("panes")[n]?.layer;
    if (wish !== at || !play.isConnected) return stop(); // somebody chose otherwise
    if (shown?.layer !== at) return;
    at += 1;
    if (at >= layers) return stop();
    choose({ layer: at });
  }
  function update() {
    play.ariaPressed = timer !== 0;
  }
  return { root: play, update, stop };
}
