// The attention widget: `render` puts it on a page.
//
// Python sends the film once a case and each map as a small grid; all else is drawn
// here, with the constants of radwb.show.mix (`about.mix`), so that the picture is the
// one that Python draws. The files of this folder are joined into one module.

export default { render };

function render({ model, el }) {
  const root = make("div", {
    className: "rx",
    tabIndex: 0,
    role: "group",
    ariaLabel: "Attention explorer",
  });
  const strip = filmStrip(model);
  const link = linkBox(model);
  const bar = toolbar(model, { strip, link, save: () => save(model, panes) });
  const tools = toolbox(model);
  const stage = make("div", { className: "rx-panes" });
  const about = factsOf(model);
  const notes = noteBox(model);
  const body = make(
    "fieldset", // one word turns all its controls off
    { className: "rx-body", ariaLabel: "Films and maps" },
    bar.root,
    link.root,
    strip.root,
    tools.root,
    stage,
    about.root,
    notes.root,
    bar.display,
    foot(model),
  );
  const sleep = sleepGuard(model, (asleep) => {
    body.disabled = asleep;
    root.classList.toggle("rx-asleep", asleep);
  });
  root.append(sleep.root, body);
  root.addEventListener("keydown", (event) => noKeys(event, body.disabled), true);
  keepKeys(root);
  el.append(root);
  let panes = [];

  function update() {
    const wanted = model.get("panes").length;
    if (wanted !== panes.length) {
      panes = Array.from({ length: wanted }, (_, n) => pane(model, n, tools));
      stage.replaceChildren(...panes.map((p) => p.root));
      root.classList.toggle("rx-two", wanted > 1);
    }
    for (const part of [bar, tools, strip, about, notes, ...panes]) part.update();
    root.dataset.painted = +(root.dataset.painted || 0) + 1;
  }

  tools.listen(root);
  root.addEventListener("keydown", (event) => keys(event, model, panes, notes));
  const names = "case order arranged films panes look scan views notes"
    .split(" ")
    .map((name) => `change:${name}`)
    .join(" ");
  model.on(names, update);
  update();
  return () => {
    model.off(names, update);
    for (const part of [tools, strip, link, notes, sleep, ...panes]) part.leave();
  };
}

// The keys of the widget as a whole; those of the film and of the heads are theirs.
function keys(event, model, panes, notes) {
  const typing = event.target.matches("select, textarea, input:not([type=range])");
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    const here = panes.find((p) => p.root.contains(event.target));
    for (const p of here ? [here] : panes) p.back();
    return;
  }
  if (typing || event.shiftKey || event.target.matches("input")) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const verdict = { a: "agree", d: "disagree", u: "unsure" }[event.key];
  if (by || verdict) event.preventDefault();
  if (by) step(model, by);
  if (verdict) notes.judge(verdict);
}

// To the next film of the order that is shown, or `by` films on.
function step(model, by) {
  const order = model.get("order");
  if (!order.length) return;
  const at = order.indexOf(model.get("case")) + by;
  const to = Math.min(Math.max(at, 0), order.length - 1);
  if (order[to] !== model.get("case")) set(model, "case", order[to]);
}

function save(model, panes) {
  const name = `${model.get("scan").name}.png`.replace(/[^\w.-]+/g, "_");
  sheet(panes, model).toBlob((blob) => {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

function foot(model) {
  return footOf(
    model,
    "← → film · a, d, u: agree, disagree, unsure · drag: window, level " +
      "(double click: reset, fit) · Ctrl + wheel: zoom · click, Shift + arrows: what a patch attends to " +
      "(Esc: back)",
  );
}
