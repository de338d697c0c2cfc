// What was found, in words, and what becomes of it.

const VERDICT_KEYS = {
  d: "drop",
  k: "keep",
  u: "unsure",
  1: "drop first",
  2: "drop second",
};

function foundWords(model) {
  const severity = make("span", { className: "rr-severity" });
  const sentence = make("span", { className: "rr-sentence" });
  const value = make("b", { className: "rr-value" });
  const root = make(
    "div",
    { className: "rr-found", ariaLive: "polite" },
    severity,
    sentence,
    value,
  );
  function update() {
    const shown = model.get("shown");
    write(severity, shown.severity || "");
    severity.dataset.severity = shown.severity;
    write(sentence, shown.sentence || "");
    write(value, shown.value || "");
    root.hidden = !shown.of;
  }
  return { root, update };
}

function verdictBox(model, asked) {
  const names = { drop: "Drop", keep: "Keep", unsure: "Unsure" };
  const buttons = {};
  for (const [verdict, name] of Object.entries(names))
    buttons[verdict] = press(name, `${name} (${name[0].toLowerCase()})`, () =>
      judge(verdict),
    );
  const text = make("input", {
    type: "text",
    placeholder: "a note",
    ariaLabel: "Note",
    maxLength: model.get("about").longest,
  });
  const told = make("span", { className: "rr-told", role: "status" });
  const problem = make("div", { className: "rx-problem", role: "alert" });
  const root = make(
    "div",
    { className: "rx-bar rx-notes", role: "group", ariaLabel: "Your verdict" },
    make("span", {}, "Your verdict"),
    ...Object.values(buttons),
    text,
    told,
    problem,
  );
  let seen; // the thing that the text belongs to, also while the next one comes
  let written = ""; // null: it wasn't saved

  // A note comes a little after its thing: one that nobody wrote in is left alone.
  function send(verdict, go_on) {
    const note = text.value === written ? null : text.value.trim();
    written = text.value;
    const { number } = seen;
    tellPython(model, { judge: { number, verdict, note, go_on } });
    asked();
  }
  function keep() {
    if (seen && text.value !== written) send(seen.verdict, false);
  }
  text.onchange = keep;

  // the same verdict again takes it back, and stays
  function judge(verdict) {
    const { of, droppable, pair } = model.get("shown");
    if (!of || !seen) return;
    const drops = verdict.startsWith("drop");
    if (drops && !droppable) return;
    if (verdict.includes(" ") && !pair) return;
    const again = seen.verdict === verdict;
    send(again ? "" : verdict, !again);
  }

  function update() {
    const shown = model.get("shown");
    if (seen && shown.number !== seen.number) keep();
    if (shown.number !== seen?.number) {
      text.value = "";
      written = "";
    }
    seen = shown.of ? shown : undefined;
    // asked for, not synced: what is synced, a saved notebook holds
    if (seen) tellPython(model, { note: true });
    const verdict = shown.verdict || "";
    for (const [name, one] of Object.entries(buttons))
      one.ariaPressed = verdict.split(" ")[0] === name;
    // not turned off: what has the focus would lose it, and the notebook get its keys
    buttons.drop.ariaDisabled = !shown.droppable;
    write(told, toldOf(shown, verdict));
    root.hidden = !shown.of;
  }
  function heard({ noted, note, number }) {
    if (noted) write(problem, noted.error);
    if (noted?.error && noted.number === seen?.number) written = null;
    if (note === undefined || number !== seen?.number) return;
    if (text.value !== written || note === written) return; // somebody is at it
    text.value = note;
    written = note;
  }
  model.on("msg:custom", heard);
  return { root, update, judge, leave: () => model.off("msg:custom", heard) };
}

function toldOf({ droppable }, verdict) {
  if (verdict.includes(" ")) return `${verdict} of the two`;
  return droppable ? "" : "on the table as a whole: nothing to drop";
}
