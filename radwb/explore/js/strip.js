// The films as a strip: thumbnails to walk through, sort and filter. Only those in
// sight are on the page, and only their pictures are asked for.

function filmStrip(model) {
  const rail = make("div", { className: "rx-rail", role: "presentation" });
  const list = make(
    "div",
    {
      className: "rx-strip",
      role: "listbox",
      tabIndex: 0,
      ariaLabel: "Film strip",
      ariaOrientation: "horizontal",
    },
    rail,
  );
  const tools = stripTools(model);
  const root = make("div", { className: "rx-films" }, tools.root, list);
  root.hidden = model.get("order").length < 2;
  const pictures = stripPictures(model, update);
  const items = new Map(); // case -> what is on the page
  let centred;

  function update() {
    if (root.hidden) return;
    tools.update();
    const order = model.get("order");
    const seen = model.get("case");
    const wide = stripItemWidth(list);
    rail.style.width = `${order.length * wide}px`;
    if (centred !== (centred = `${seen} ${order.length} ${order[0]}`))
      centre(list, order.indexOf(seen), wide);
    const first = Math.max(0, Math.floor(list.scrollLeft / wide) - 1);
    const count = Math.ceil((list.clientWidth || 800) / wide) + 2;
    const inSight = order.slice(first, first + count);
    for (const [film, item] of items)
      if (!inSight.includes(film)) (item.root.remove(), items.delete(film));
    inSight.forEach((film, i) => {
      if (!items.has(film)) items.set(film, stripItem(model, film, list.id));
      const item = items.get(film);
      if (item.root.parentNode !== rail) rail.append(item.root);
      item.update(first + i, wide, pictures.of(film));
    });
    pictures.want(inSight);
    list.setAttribute("aria-activedescendant", items.get(seen)?.root.id || "");
  }
  list.id = `rx-strip-${Math.random().toString(36).slice(2)}`;
  list.onscroll = () => requestAnimationFrame(update);
  list.onkeydown = (event) => stripKey(event, model, list);
  const watch = new ResizeObserver(() => requestAnimationFrame(update));
  watch.observe(list);
  function leave() {
    watch.disconnect();
    pictures.leave();
  }
  return { root, update, leave };
}

function stripItemWidth(list) {
  return parseFloat(getComputedStyle(list).getPropertyValue("--item")) || 84;
}

function centre(list, place, wide) {
  const left = place * wide;
  const inSight =
    left >= list.scrollLeft && left + wide <= list.scrollLeft + list.clientWidth;
  if (place >= 0 && !inSight) list.scrollLeft = left - (list.clientWidth - wide) / 2;
}

function stripKey(event, model, list) {
  const page = Math.max(1, Math.floor(list.clientWidth / stripItemWidth(list)) - 1);
  const by = { Home: -1e9, End: 1e9, PageUp: -page, PageDown: page }[event.key];
  if (!by) return; // arrows are the whole widget's
  event.preventDefault();
  step(model, by);
}

function stripItem(model, film, list) {
  const canvas = make("canvas", { width: 72, height: 72 });
  const named = make("b");
  const first = make("span");
  const second = make("span");
  const mark = make("i");
  const root = make(
    "div",
    {
      className: "rx-item",
      role: "option",
      id: `${list}-${film}`,
      onclick: () => root.closest("fieldset").disabled || set(model, "case", film),
    },
    canvas,
    named,
    mark,
    first,
    second,
  );
  let drawn;

  function update(place, wide, picture) {
    const { name = `film ${film + 1}`, values = {} } = model.get("films")?.[film] || {};
    const { verdict = "", note = "" } = model.get("notes")?.[film] || {};
    const { by = "" } = model.get("arranged") || {};
    const lead = by in values && by !== "score" ? by : "label";
    root.style.left = `${place * wide}px`;
    root.ariaSelected = film === model.get("case");
    const led = lead === "label" ? findingText(values.label) : figure(values[lead]);
    write(named, name);
    write(first, values[lead] === undefined ? name : led);
    write(second, values.score == null ? "" : figure(values.score));
    mark.textContent = { agree: "✓", disagree: "✗", unsure: "?" }[verdict] || "";
    mark.className = note ? "rx-noted" : "";
    const said = [name, `${lead} ${led}`, `score ${figure(values.score)}`];
    root.title = [...said, verdict, note].filter(Boolean).join(", ");
    root.ariaPosInSet = place + 1;
    root.ariaSetSize = model.get("order").length;
    if (picture && picture !== drawn) drawThumb(canvas, picture);
    drawn = picture;
  }
  return { root, update };
}

function drawThumb(canvas, { rows, cols, pixels }) {
  if (!rows) return; // it couldn't be read
  const film = make("canvas", { width: cols, height: rows });
  const image = new ImageData(cols, rows);
  pixels.forEach((v, i) => image.data.set([v, v, v, 255], 4 * i));
  brush(film).putImageData(image, 0, 0);
  const scale = Math.min(canvas.width / cols, canvas.height / rows);
  const [w, h] = [cols * scale, rows * scale];
  const pen = brush(canvas);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(film, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
}

// The small pictures, asked for a moment after their place came into sight.
function stripPictures(model, changed) {
  const known = new Map();
  const asked = new Set();
  let timer = 0;

  function want(films) {
    clearTimeout(timer);
    const missing = films.filter((film) => !known.has(film) && !asked.has(film));
    if (!missing.length) return;
    timer = setTimeout(() => {
      missing.forEach((film) => asked.add(film));
      tellPython(model, { thumbs: missing });
    }, 200);
  }
  function heard({ thumbs }, buffers) {
    if (!thumbs) return;
    thumbs.forEach(({ case: film, rows, cols }, i) =>
      known.set(film, { rows, cols, pixels: bytes(buffers[i]) }),
    );
    changed();
  }
  model.on("msg:custom", heard);
  function leave() {
    clearTimeout(timer);
    model.off("msg:custom", heard);
  }
  return { want, of: (film) => known.get(film), leave };
}

function stripTools(model) {
  const sort = choice("Sort by", [""], (by) =>
    arrange(model, { by, down: by !== "" && by !== "map on truth" }),
  );
  const down = press("↓", "Highest first", (on) => arrange(model, { down: on }));
  const keep = make("select", { ariaLabel: "Keep only films with" });
  const chips = make("span", { className: "rx-chips" });
  keep.onchange = () => {
    if (!keep.value) return;
    const [column, value] = JSON.parse(keep.value);
    keep.value = "";
    keepOnly(model, column, value);
  };
  const root = make(
    "div",
    { className: "rx-striptools" },
    sort.root,
    down,
    make("label", {}, "Keep ", keep),
    chips,
  );
  let films;

  function update() {
    const {
      by = "",
      down: falls = false,
      keep: kept = {},
    } = model.get("arranged") || {};
    const { columns = [] } = model.get("about");
    options(sort.input, ["", ...columns, "map on truth"], (c) => c || "table");
    sort.input.value = by;
    down.ariaPressed = falls;
    down.disabled = by === "";
    down.firstChild.data = falls ? "↓" : "↑";
    down.title = down.ariaLabel = falls ? "Highest first" : "Lowest first";
    if (films !== (films = model.get("films")))
      offerFilters(keep, films || [], columns);
    chips.replaceChildren(...Object.entries(kept).map((pair) => chip(model, pair)));
  }
  return { root, update };
}

function keepOnly(model, column, value) {
  const keep = { ...model.get("arranged")?.keep, [column]: value };
  if (value === undefined) delete keep[column];
  arrange(model, { keep });
}

function chip(model, [column, value]) {
  const name = `${column} ${figure(value)} ✕`;
  return button(name, `Show films of any ${column} again`, () =>
    keepOnly(model, column, undefined),
  );
}

// Columns of few values: finding, site, sex, error. An age is to be sorted by.
function offerFilters(select, films, columns) {
  const groups = columns.flatMap((column) => {
    const values = [...new Set(films.map((film) => film.values?.[column] ?? null))];
    if (values.length < 2 || values.length > 12) return [];
    const entries = values
      .sort()
      .map((value) =>
        make(
          "option",
          { value: JSON.stringify([column, value]) },
          valueText(values, value),
        ),
      );
    return [make("optgroup", { label: column }, ...entries)];
  });
  select.replaceChildren(make("option", { value: "" }, "all films"), ...groups);
  select.parentNode.hidden = !groups.length;
}

// A column of nothing but 1 and 0 is one of labels.
function valueText(values, value) {
  if (value === null) return "not known";
  const labels = values.every((one) => [1, 0, -1, null].includes(one));
  return labels ? findingText(value) : figure(value);
}
