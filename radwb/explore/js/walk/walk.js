// From one thing to the next. One step at a time: a key that is held down asks for the
// next place once the last has come.

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

// `words`: what the bar and its buttons call the things.
function walkBar(model, walk, words) {
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
    { className: "rx-bar", role: "toolbar", ariaLabel: words.all },
    button("◀", `Previous ${words.one}`, () => walk.step(-1)),
    button("▶", `Next ${words.one}`, () => walk.step(1)),
    position,
    done,
    button("Next open", "The next one without a verdict (n)", walk.open),
    make("label", {}, `${words.kept} `, keep),
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

// The keys of a walk: true where one was meant for it.
function walkKeys(walk, verdicts, letters) {
  return (key) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (by) walk.step(by);
    else if (key === "n") walk.open();
    else if (letters[key]) verdicts.judge(letters[key]);
    else return false;
    return true;
  };
}
