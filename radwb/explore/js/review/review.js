// The widget for what an audit flagged: `render` puts it on a page. Python sends what
// stands at a place when it is asked for, and nothing of all the others.

export default { render };

function render({ model, el }) {
  const root = make("div", {
    className: "rx rr",
    tabIndex: 0,
    role: "group",
    ariaLabel: "Review of what was flagged",
  });
  const walk = walker(model);
  const bar = reviewBar(model, walk);
  const found = foundWords(model);
  const verdicts = verdictBox(model, () => sleep.ask());
  const sides = sidesOf(model, verdicts);
  const body = make(
    "fieldset", // one word turns all its controls off
    { className: "rx-body", ariaLabel: "What was flagged" },
    bar.root,
    found.root,
    verdicts.root,
    sides.root,
    footOf(
      model,
      "← → other things flagged · n: next without a verdict · d, k, u: drop, keep, unsure, " +
        "and on · 1, 2: drop the first or the second of a pair · a saved notebook keeps " +
        "the films and names seen last, no report and no note",
    ),
  );
  const sleep = sleepGuard(model, slept, "change:at change:keep");

  function slept(asleep) {
    holdFocus(root, () => (body.disabled = asleep));
    root.classList.toggle("rx-asleep", asleep);
  }
  function update() {
    const shown = model.get("shown");
    holdFocus(root, () => {
      for (const part of [bar, found, verdicts, sides]) part.update();
    });
    walk.arrived();
    root.dataset.painted = +(root.dataset.painted || 0) + 1;
  }

  root.append(sleep.root, body);
  root.addEventListener("keydown", (event) => noKeys(event, body.disabled), true);
  root.addEventListener("keydown", (event) => reviewKeys(event, walk, verdicts));
  keepKeys(root);
  el.append(root);
  model.on("change:shown", update);
  update();
  return () => {
    model.off("change:shown", update);
    for (const part of [verdicts, sides, sleep]) part.leave();
  };
}

// What has the focus may go or be turned off: the notebook would hear the next key.
function holdFocus(root, change) {
  const held = root.contains(document.activeElement);
  change();
  const focus = document.activeElement;
  const lost = !root.contains(focus) || focus.matches(":disabled");
  if (held && lost) root.focus({ preventScroll: true });
}

function reviewKeys(event, walk, verdicts) {
  const typing = event.target.matches("select, textarea, input");
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing) event.target.closest(".rr").focus();
  if (typing || event.shiftKey || event.target.matches(".rr-text")) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const verdict = VERDICT_KEYS[event.key];
  if (!by && !verdict && event.key !== "n") return;
  event.preventDefault();
  if (by) walk.step(by);
  else if (verdict) verdicts.judge(verdict);
  else walk.open();
}

// One step at a time: a key that is held down asks for the next place once the last
// has come.
function walker(model) {
  let wanted = null;

  function go(at) {
    const { of = 0 } = model.get("shown");
    const to = Math.min(Math.max(at, 0), of - 1);
    if (to < 0) return;
    wanted = to;
    if (isThere()) ask();
  }
  const isThere = () => model.get("shown").at === model.get("at");
  function ask() {
    if (wanted === null) return;
    const to = Math.min(wanted, model.get("shown").of - 1); // others may be kept now
    wanted = null;
    if (to !== model.get("at")) set(model, "at", to);
  }
  return {
    step: (by) => go((wanted ?? model.get("at")) + by),
    open: () => tellPython(model, { open: true }),
    arrived: () => isThere() && ask(),
  };
}

function reviewBar(model, walk) {
  const position = make("span", { className: "rx-position", ariaLive: "polite" });
  const done = make("span", { className: "rr-done" });
  const all = model.get("about").checks;
  const keep = make("select", {
    onchange: () => {
      model.set("at", 0);
      set(model, "keep", keep.value);
    },
  });
  const total = all.reduce((sum, [, n]) => sum + n, 0);
  keep.append(
    make("option", { value: "" }, `all (${total})`),
    ...all.map(([check, n]) => make("option", { value: check }, `${check} (${n})`)),
  );
  const root = make(
    "div",
    { className: "rx-bar", role: "toolbar", ariaLabel: "Things flagged" },
    button("◀", "Previous thing flagged", () => walk.step(-1)),
    button("▶", "Next thing flagged", () => walk.step(1)),
    position,
    done,
    button("Next open", "The next one without a verdict (n)", walk.open),
    make("label", {}, "Flagged for ", keep),
  );
  function update() {
    const { at, of, check, done: judged } = model.get("shown");
    const { nothing } = model.get("about");
    write(position, of ? `${at + 1} of ${of}: ${check}` : nothing);
    write(done, of ? `${judged} of ${of} judged` : "");
    keep.value = model.get("keep");
  }
  return { root, update };
}
