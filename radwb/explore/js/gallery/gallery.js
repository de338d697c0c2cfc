// The widget for a model's worst errors: `render` puts it on a page. Film, outline and
// map come as pictures of one size, which lie over one another here.

export default { render };

const ERROR_KEYS = {
  r: "really there",
  a: "really absent",
  c: "can't be seen",
  l: "label wrong",
  s: "shortcut",
  u: "unsure",
};

function render({ model, el }) {
  const walk = walker(model);
  const layers = layerBar(model);
  const stage = errorStage(model);
  const verdicts = judgeBox(model, () => frame.ask(), {
    letters: ERROR_KEYS,
    names: Object.fromEntries(
      Object.values(ERROR_KEYS).map((one) => [one, inTitle(one)]),
    ),
    may: (verdict, { allowed }) => Boolean(allowed?.includes(verdict)),
    isOn: (name, verdict) => name === verdict,
    told: () => "",
  });
  const walkOf = walkKeys(walk, verdicts, ERROR_KEYS);
  const frame = framed(model, el, {
    kind: "rr rg",
    name: "Worst errors",
    body: "Worst errors",
    parts: [
      walkBar(model, walk, { all: "Errors", one: "error", kept: "Kind" }),
      foundWords(model, "check"),
      verdicts,
      layers,
      stage,
    ],
    help:
      "← → other errors · n: next without a verdict · r, a, c, l, s, u: the verdicts, and on · " +
      "o, m: outline, map · a saved notebook keeps the films and names seen last, no " +
      "report and no note",
    keys: (key) => layers.key(key) || walkOf(key),
    wishes: "change:at change:keep change:method change:layers",
    arrived: walk.arrived,
  });
  const changed = () => [layers, stage].forEach((part) => part.update());
  model.on("change:layers change:method", changed);
  return () => {
    model.off("change:layers change:method", changed);
    frame.leave();
  };
}

function inTitle(words) {
  return words[0].toUpperCase() + words.slice(1);
}

// What lies over the film, and which map.
function layerBar(model) {
  const turn = (name) => () => {
    const layers = model.get("layers");
    set(model, "layers", { ...layers, [name]: !layers[name] });
  };
  const outline = press("Outline", "Outline of the truth (o)", turn("outline"));
  const map = press("Map", "The model's map (m)", turn("map"));
  const method = choice("Method", model.get("about").methods, (value) =>
    set(model, "method", value),
  );
  const told = make("span", { className: "rr-told", role: "status" });
  const root = make(
    "div",
    { className: "rx-bar rg-layers", role: "group", ariaLabel: "Over the film" },
    outline,
    map,
    method.root,
    told,
  );
  function update() {
    const layers = model.get("layers");
    const { of, outline: drawn, film, mapped } = model.get("shown");
    outline.ariaPressed = Boolean(layers.outline);
    map.ariaPressed = Boolean(layers.map);
    method.input.value = model.get("method");
    method.input.disabled = !layers.map;
    const without = film?.byteLength && !drawn?.byteLength ? "no outline is known" : "";
    write(told, [mapped, without].filter(Boolean).join(" · "));
    root.hidden = !of;
  }
  function key(letter) {
    if (letter === "o") turn("outline")();
    else if (letter === "m") turn("map")();
    else return false;
    return true;
  }
  return { root, update, key };
}

function errorStage(model) {
  const films = pictures();
  const thumbs = pictures();
  const stack = make("div", { className: "rg-stack" });
  const name = make("div", { className: "rr-name" });
  const facts = make("div");
  const report = make("div", { className: "rr-report" });
  const near = make("div", { className: "rg-near" });
  const film = sideCalled("Film", name, stack);
  const about = sideCalled("About this film", facts, report, near);
  const root = make("div", { className: "rr-sides" }, film, about);
  let known;
  let drawn;

  function draw(shown, layers) {
    films.forget();
    const parts = shown.problem
      ? [make("div", { className: "rx-error", role: "note" }, shown.problem)]
      : [films.of(shown.film, `Film ${shown.name}`, "rr-film")];
    for (const layer of ["map", "outline"])
      if (layers[layer] && shown[layer]?.byteLength)
        parts.push(films.of(shown[layer], layerName(layer), "rg-over", "image/png"));
    stack.replaceChildren(...parts);
  }
  function update() {
    const shown = model.get("shown");
    root.hidden = !shown.of;
    if (!shown.of) return;
    const layers = model.get("layers");
    if (shown !== drawn?.shown || layers !== drawn.layers) draw(shown, layers);
    drawn = { shown, layers };
    if (shown.number === known) return;
    known = shown.number;
    write(name, shown.name);
    facts.replaceChildren(factsInLine(shown.facts));
    report.replaceChildren();
    thumbs.forget();
    near.replaceChildren(make("h4", {}, waiting(model)));
    tellPython(model, { texts: true });
    tellPython(model, { neighbours: known });
  }
  function heard({ texts, neighbours, number }, buffers) {
    if (number !== known) return;
    if (texts?.length) report.replaceChildren(reportOf(texts[0]));
    if (neighbours) near.replaceChildren(...nearest(neighbours, buffers, thumbs));
  }
  model.on("msg:custom", heard);
  function leave() {
    films.forget();
    thumbs.forget();
    model.off("msg:custom", heard);
  }
  return { root, update, leave };
}

function layerName(layer) {
  return { map: "The model's map", outline: "Outline of the truth" }[layer];
}

function reportOf(text) {
  const words = make("p", {
    className: "rr-text",
    tabIndex: 0, // it scrolls
    role: "region",
    ariaLabel: "Report",
  });
  words.append(text);
  return make("details", { open: true }, make("summary", {}, "report"), words);
}

function waiting(model) {
  const { training } = model.get("about");
  if (!training) return "No training films to look for neighbours in";
  return `Looking through ${training} training films …`;
}

function nearest(neighbours, buffers, thumbs) {
  if (!neighbours.length) return [make("h4", {}, "No training films to look in")];
  const row = make("div", { className: "rg-row" });
  neighbours.forEach(({ name, label, likeness }, n) => {
    const figure = make("figure", {});
    if (buffers[n].byteLength)
      figure.append(thumbs.of(buffers[n], `Training film ${name}`, "rg-thumb"));
    figure.append(
      make(
        "figcaption",
        { title: name },
        make("b", {}, label),
        make("span", {}, `likeness ${likeness}`),
      ),
    );
    row.append(figure);
  });
  return [make("h4", {}, "The most alike in training, by their label"), row];
}
