// A verdict and a note on the film that is seen.

function noteBox(model) {
  const names = { agree: "Agree", disagree: "Disagree", unsure: "Unsure" };
  const buttons = {};
  for (const [verdict, name] of Object.entries(names))
    buttons[verdict] = press(
      name,
      `${name} with the map (${name[0].toLowerCase()})`,
      () => judge(verdict),
    );
  const text = make("input", {
    type: "text",
    placeholder: "a note on this film",
    ariaLabel: "Note",
    maxLength: 2000,
  });
  const problem = make("div", { className: "rx-problem", role: "alert" });
  const root = make(
    "div",
    { className: "rx-bar rx-notes", role: "group", ariaLabel: "Your reading" },
    make("span", {}, "Your reading"),
    ...Object.values(buttons),
    text,
    problem,
  );
  let seen; // the film that the text belongs to, also while the next one comes
  let written = "";

  let sent = null; // stands until Python has answered

  function noteOf(film) {
    const kept = model.get("notes") || {};
    if (sent && sent.before === model.get("notes") && sent.film === film)
      return sent.note;
    const { verdict = "", note = "" } = kept[film] || {};
    return { verdict, note };
  }
  function send(film, changes) {
    const note = { ...noteOf(film), ...changes };
    sent = { film, note, before: model.get("notes") };
    tellPython(model, { note: { case: film, ...note } });
    update();
  }
  function keep() {
    if (seen === undefined || text.value === written) return;
    written = text.value;
    send(seen, { note: written.trim() });
  }
  text.onchange = keep;

  // the same verdict again takes it back
  function judge(verdict) {
    if (seen === undefined) return;
    keep();
    const again = noteOf(seen).verdict === verdict;
    send(seen, { verdict: again ? "" : verdict, note: text.value.trim() });
  }

  function update() {
    const { case: film } = model.get("scan");
    if (film !== seen) keep();
    const note = noteOf(film);
    if (film !== seen || document.activeElement !== text) {
      text.value = note.note;
      written = note.note;
    }
    seen = film;
    for (const [verdict, one] of Object.entries(buttons))
      one.ariaPressed = note.verdict === verdict;
  }
  const heard = ({ noted }) => noted && write(problem, noted.error);
  model.on("msg:custom", heard);
  return { root, update, judge, leave: () => model.off("msg:custom", heard) };
}
