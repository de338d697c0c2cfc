// The tools at the film: what the hand does there, and what all panes share meanwhile.

function toolbox(model) {
  const self = {
    films: [], // what `film` made for each pane
    tool: "window", // what a drag does
    blinking: false,
    away: false, // the film alone, or the other pane's picture, for a moment
    swipe: null, // where it begins, as a fraction of the canvas
    hover: false,
    link: false,
    large: false,
    line: null, // {case, ends: [[u, v], [u, v]]} that was measured
    path: null, // {pane, points: [[u, v]]} that is being drawn
  };
  const full = fullFilms(model, () => self.redraw());
  let timer = null,
    root = null;

  self.pixels = full.pixels;
  self.longest = () => (self.large ? 800 : model.get("panes").length > 1 ? 400 : 480);
  self.hidden = () => self.away;
  self.redraw = () => self.films.forEach((one) => one.redraw());
  self.drawOn = (pen, place, scan, film, ratio) => {
    const { line, path } = self;
    if (line?.case === scan.case) measured(pen, place, scan, line.ends, ratio);
    if (path?.pane === film.n) drawnPath(pen, place, path.points, ratio);
  };
  self.look = (changes) => set(model, "look", { ...looks(model), ...changes });
  self.setTool = (name) => {
    self.tool = name;
    update();
  };

  // To and fro once a second: more would be a flicker that nobody should be shown.
  function blink(on) {
    clearInterval(timer);
    self.blinking = on;
    self.away = false;
    timer = on
      ? setInterval(() => {
          if (!root?.isConnected) return clearInterval(timer);
          self.away = !self.away;
          self.redraw();
        }, 500)
      : null;
    self.redraw();
    update();
  }

  function swipe(on) {
    self.swipe = on ? 0.5 : null;
    self.redraw();
    update();
  }

  function moveSwipe(by) {
    self.swipe = Math.min(1, Math.max(0, self.swipe + by));
    self.redraw();
  }

  function zoom(factor) {
    const scan = model.get("scan"),
      wide = self.films[0]?.canvas.clientWidth;
    if (!wide || !scan.pixels) return;
    const place = looks(model).place;
    self.look({
      place: factor
        ? zoomed(place, factor, place[0], place[1], scan, wide)
        : [0.5, 0.5, 1],
    });
  }

  function preset(at) {
    const one = model.get("about").presets?.[at];
    if (one) self.look({ window: one.window, level: one.level });
  }

  // One scale for all panes and films: from the lowest to the highest that they have now.
  function sameScale(on) {
    const ranges = self.films.map((one) => one.range()).filter(Boolean);
    const range = ranges.length
      ? [Math.min(...ranges.map((r) => r[0])), Math.max(...ranges.map((r) => r[1]))]
      : null;
    self.look({ scale: on ? "shared" : "own", range: on ? range : null });
  }

  function direct(direction) {
    set(
      model,
      "panes",
      model.get("panes").map((pane) => ({ ...pane, direction })),
    );
  }

  const toggle = (key, name, title, part) => ({
    key,
    name,
    title,
    on: () => self[part],
    change: (on) => {
      self[part] = on;
      self.redraw();
      update();
    },
  });
  const tool = (key, name, title) => ({
    key,
    name,
    title,
    on: () => self.tool === name.toLowerCase(),
    change: () => self.setTool(name.toLowerCase()),
  });
  const looked = (key, name, title, part) => ({
    key,
    name,
    title,
    on: () => Boolean(looks(model)[part]),
    change: (on) => self.look({ [part]: on }),
  });
  const groups = {
    "What a drag does": [
      tool("v", "Window", "Drag sets window and level, a click asks for a patch"),
      tool("z", "Pan", "Drag moves the film; so does the middle button"),
      tool("m", "Measure", "Drag draws a line and says how long it is"),
      tool("r", "Box", "Drag asks for the patches of a box; so does Shift + drag"),
      tool("l", "Lasso", "Drag around the patches to ask for"),
    ],
    Map: [
      looked("i", "Invert", "Black for white", "invert"),
      looked(
        "c",
        "Contours",
        "Lines at the map's percentiles, not colours",
        "contours",
      ),
      {
        key: "s",
        name: "Same scale",
        title: "One colour scale for all films and panes",
        on: () => looks(model).scale === "shared",
        change: sameScale,
      },
    ],
    Compare: [
      {
        key: "b",
        name: "Blink",
        title: "To and fro between map and film, or two panes; hold Space for once",
        on: () => self.blinking,
        change: blink,
      },
      {
        key: "w",
        name: "Swipe",
        title: "Left the map, right the film or the other pane; drag the line, or , .",
        on: () => self.swipe !== null,
        change: swipe,
      },
    ],
    Patches: [
      toggle("h", "Hover", "Show what is under the pointer; so does Alt", "hover"),
      toggle("k", "Link", "The same place in both panes", "link"),
      {
        key: "t",
        name: "To it",
        title: "What attends to the patch or region, not what it attends to",
        on: () => model.get("panes")[0].direction === "to",
        change: (on) => direct(on ? "to" : "from"),
      },
    ],
    Size: [
      { key: "-", name: "−", title: "Smaller", change: () => zoom(1 / 1.25) },
      {
        key: "+",
        name: "+",
        title: "Larger; or Ctrl + wheel",
        change: () => zoom(1.25),
      },
      { key: "0", name: "Fit", title: "The whole film", change: () => zoom(0) },
      toggle("f", "Large", "The film as large as there is room for", "large"),
    ],
  };
  const all = Object.values(groups).flat();
  for (const one of all) one.button = toolButton(one);
  const presets = choice("Preset", [], (at) => at !== "" && preset(+at));
  root = toolbarOf(groups, presets);
  self.root = root;

  function update() {
    root.closest(".rx")?.classList.toggle("rx-large", self.large);
    for (const { button, on } of all) if (on) button.ariaPressed = Boolean(on());
    const known = model.get("about").presets ?? [],
      look = looks(model);
    presets.root.hidden = !known.length;
    options(presets.input, ["", ...known.keys()], (at) =>
      at === "" ? "own" : `${at + 1} ${known[at].name}`,
    );
    const now = known.findIndex(
      (one) => one.window === look.window && one.level === look.level,
    );
    presets.input.value = now < 0 ? "" : now;
  }

  function pressed(event) {
    if (event.target.matches("input, select, textarea") || event.defaultPrevented)
      return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest(".rx-asleep")) return;
    if (event.key === " " && event.target.matches(".rx, .rx-scan")) {
      event.preventDefault();
      if (!self.away) ((self.away = true), self.redraw());
      return;
    }
    const aside = { ",": -0.05, ".": 0.05 }[event.key];
    const one = all.find(
      ({ key }) => key === event.key || (key === "+" && event.key === "="),
    );
    if (aside && self.swipe !== null) moveSwipe(aside);
    else if (one) one.change(!one.on?.());
    else if (/^[1-9]$/.test(event.key)) preset(event.key - 1);
    else return;
    event.preventDefault();
  }

  function released(event) {
    if (event.key !== " " || !self.away || self.blinking) return;
    self.away = false;
    self.redraw();
  }

  self.update = update;
  self.listen = (element) => {
    element.addEventListener("keydown", pressed);
    element.addEventListener("keyup", released);
    element.addEventListener("focusout", () => released({ key: " " }));
  };
  window.addEventListener("resize", self.redraw); // also when the browser's zoom changes
  self.leave = () => {
    clearInterval(timer);
    window.removeEventListener("resize", self.redraw);
    full.stop();
  };
  update();
  return self;
}

function toolButton({ key, name, title, on, change }) {
  const one = button(name, `${title} (${key})`, () =>
    change(one.ariaPressed !== "true"),
  );
  one.ariaLabel = /\w/.test(name) ? name : title;
  if (on) one.ariaPressed = false;
  return one;
}

// One stop for the Tab key; arrows go on within.
function toolbarOf(groups, presets) {
  const root = make("div", {
    className: "rx-tools",
    role: "toolbar",
    ariaLabel: "Tools at the film",
  });
  for (const [ariaLabel, tools] of Object.entries(groups)) {
    const buttons = tools.map((one) => one.button);
    root.append(
      make("span", { className: "rx-group", role: "group", ariaLabel }, ...buttons),
    );
  }
  root.lastChild.before(presets.root);
  const stops = [...root.querySelectorAll("button, select")];
  stops.forEach((stop, i) => (stop.tabIndex = i ? -1 : 0));
  root.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key],
      at = stops.indexOf(event.target);
    if (!by || at < 0) return;
    event.preventDefault();
    const next = stops[(at + by + stops.length) % stops.length];
    stops.forEach((stop) => (stop.tabIndex = stop === next ? 0 : -1));
    next.focus();
  };
  return root;
}

// Films as large as they are, asked for when the canvas has more pixels than the film
// that is here; the last two are kept.
function fullFilms(model, arrived) {
  const kept = new Map(),
    asked = new Set();

  function pixels(scan, wanted) {
    const [rows, cols] = scan.full ?? [scan.rows, scan.cols];
    if (kept.has(scan.case)) return kept.get(scan.case);
    if (cols > scan.cols && wanted > scan.cols && !asked.has(scan.case)) {
      asked.add(scan.case);
      tellPython(model, { full: scan.case });
    }
    return scan;
  }

  function heard(content, buffers) {
    if (!content.full) return;
    const { rows, cols } = content.full;
    kept.set(content.full.case, { rows, cols, pixels: buffers[0] });
    asked.delete(content.full.case);
    if (kept.size > 2) kept.delete(kept.keys().next().value);
    arrived();
  }

  model.on("msg:custom", heard);
  return { pixels, stop: () => model.off("msg:custom", heard) };
}
