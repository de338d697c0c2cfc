// One pane: controls, scan, heads, words.

function pane(model, n, tools) {
  const mine = () => model.get("panes")[n];
  const memory = methodsBefore(model, n);
  const choose = (changes) => choosePane(model, n, changes);
  choose.back = memory.back;
  const scan = film(model, n, choose, tools),
    { canvas } = scan;
  const label = make("span");
  const controls = paneControls(model, n, memory);
  const busy = busyBox(model, n);
  const words = wordsOf(model, n);
  const { of_head, no_layer } = model.get("about");
  const heads = headGrid(model, n, (changes) => {
    const { method } = mine();
    const fits = changes.head === undefined ? !no_layer.includes(method) : false;
    const keeps = fits || of_head.includes(method);
    choose(keeps ? changes : { method: "attention", ...changes });
  });
  const film_box = make(
    "div",
    { className: "rx-film" },
    make("div", { className: "rx-label" }, label),
    scan.root,
    busy.root,
  );
  const root = make(
    "section",
    { className: "rx-pane", ariaLabel: `Pane ${n + 1}` },
    controls.root,
    make(
      "div",
      { className: "rx-stage" },
      film_box,
      make("div", { className: "rx-side" }, words.root, heads.root),
    ),
  );

  function update() {
    const view = freshView(model, n);
    const now = mine();
    memory.note(now);
    controls.update(now, model.get("views")[n] || {});
    write(label, view.label || "");
    words.update(view, now);
    busy.update(view);
    canvas.ariaLabel = spoken(model.get("scan"), view);
    scan.draw(view);
    canvas.dataset.case = view.grid || view.error ? view.case : "";
    heads.update(view, now);
  }
  return {
    root,
    update,
    canvas,
    film: scan,
    back: memory.back,
    leave: heads.leave,
    words: () => captionOf(freshView(model, n)),
  };
}

function choosePane(model, n, changes) {
  const panes = model.get("panes");
  const changed = panes.map((p, i) => (i === n ? { ...p, ...changes } : p));
  set(model, "panes", changed);
}

// The choices to come back to: before a head or patch was clicked, and the last one
// that words are asked of.
function methodsBefore(model, n) {
  const { no_target } = model.get("about");
  let before = null;
  let asked = null;
  const part = ({ method, layer, head, patch }) => ({ method, layer, head, patch });

  function note(now) {
    const clicked = now.patch !== null || now.head !== null;
    if (!before || (!clicked && now.method !== "attention")) before = part(now);
    if (!no_target.includes(now.method)) asked = part(now);
  }
  function take(method) {
    before = { method, layer: null, head: null, patch: null };
    choosePane(model, n, before);
  }
  function back() {
    const now = model.get("panes")[n];
    const same = JSON.stringify(part(now)) === JSON.stringify(before);
    if (before && !same) choosePane(model, n, before);
  }
  function ask(target) {
    const deaf = no_target.includes(model.get("panes")[n].method);
    choosePane(model, n, { ...(deaf ? asked || firstAsked(model, n) : {}), target });
  }
  return { note, take, back, ask };
}

function firstAsked(model, n) {
  const { no_target } = model.get("about");
  const { methods } = offered(model, model.get("panes")[n].model);
  const method = methods.find((name) => !no_target.includes(name));
  return method ? { method, layer: null, head: null, patch: null } : {};
}

// What this model can be asked: not what another one can.
function offered(model, name) {
  const { kinds, targets, methods } = model.get("about");
  return { targets, methods, ...kinds?.[name] };
}

function paneControls(model, n, memory) {
  const { models, no_layer } = model.get("about");
  const whole = { layer: null, head: null, patch: null };
  const choose = (changes) => choosePane(model, n, changes);
  const method = choice("Method", [], memory.take);
  const which = choice("Model", models, (value) => choose({ model: value, ...whole }));
  const target = choice("Target", [], (value) =>
    value ? memory.ask(value) : phrase.focus(),
  );
  const layer = choice("Layer", [], (value) =>
    choose({ layer: value === "" ? null : +value }),
  );
  const phrase = phraseBox(memory.ask);
  const root = make(
    "div",
    { className: "rx-controls" },
    models.length > 1 ? which.root : "",
    method.root,
    layer.root,
    target.root,
    phrase,
  );
  target.root.classList.add("rx-target");
  let asked;

  function update(now, { layers = 0 }) {
    const { targets, methods } = offered(model, now.model);
    options(method.input, methods);
    options(target.input, ["", ...targets], (value) => value || "typed →");
    options(layer.input, ["", ...Array(layers).keys()], (v) =>
      v === "" ? "default" : v,
    );
    method.input.value = now.method;
    which.input.value = now.model;
    layer.input.value = now.layer ?? "";
    layer.input.disabled = no_layer.includes(now.method);
    target.input.value = targets.includes(now.target) ? now.target : "";
    target.input.title = now.target || "";
    if (now.target !== asked) phrase.value = target.input.value ? "" : now.target; // else somebody is typing
    asked = now.target;
  }
  return { root, update };
}

function phraseBox(ask) {
  const phrase = make("input", {
    type: "text",
    placeholder: "or type: left effusion vs right effusion",
    ariaLabel: "Phrase",
  });
  phrase.onchange = () => {
    const words = phrase.value.trim();
    if (words) ask(words);
  };
  phrase.onkeydown = (event) => {
    if (event.key === "Enter") phrase.onchange();
  };
  phrase.oninput = () => (phrase.title = phrase.value);
  return phrase;
}

function busyBox(model, n) {
  const what = make("span");
  const share = make("progress", { max: 1, ariaLabel: "Progress" });
  const root = make(
    "div",
    { className: "rx-busy", role: "status" },
    make("i"),
    what,
    share,
    button("Cancel", "Stop this computation", () => tellPython(model, { cancel: n })),
  );
  function update({ busy = "" }) {
    write(what, busy);
    const [, done, all] = busy.match(/(\d+) of (\d+)/) || [];
    share.hidden = !all;
    share.value = done / all || 0;
    root.classList.toggle("rx-on", Boolean(busy));
  }
  return { root, update };
}

function spoken(scan, view) {
  if (scan.error) return `${scan.name}: ${scan.error}`;
  if (view.case === undefined) return `${scan.name ?? "film"}: the map is computed`;
  const label = view.label.slice(0, 200);
  return `${scan.name}: ${label}. ${view.error || view.verdict}`;
}

// The lines of a saved picture.
function captionOf(view) {
  if (view.error) return [view.label || "", view.error];
  return [view.label, view.verdict, view.badge].map((line) => line || "");
}
