// What becomes of the thing that is shown: a verdict, and a note that Python keeps.
//
// `letters` are {key: verdict}, of which those in `names` have a button; `may` says
// whether a verdict can be given, `isOn` whether a button is the verdict's, `told` what
// is said beside the buttons.

function judgeBox(model, asked, { letters, names, may, isOn, told: tell }) {
  const buttons = {};
  for (const [key, verdict] of Object.entries(letters))
    if (names[verdict])
      buttons[verdict] = press(names[verdict], `${names[verdict]} (${key})`, () =>
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
    const shown = model.get("shown");
    if (!shown.of || !seen || !may(verdict, shown)) return;
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
    for (const [name, one] of Object.entries(buttons)) {
      one.ariaPressed = isOn(name, verdict);
      // not turned off: what has the focus would lose it, and the notebook get its keys
      one.ariaDisabled = !may(name, shown);
    }
    write(told, tell(shown, verdict));
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
