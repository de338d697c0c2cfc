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
  return judgeBox(model, asked, {
    letters: VERDICT_KEYS,
    names: { drop: "Drop", keep: "Keep", unsure: "Unsure" },
    may: (verdict, { droppable, pair }) =>
      verdict.includes(" ") ? droppable && pair : droppable || verdict !== "drop",
    isOn: (name, verdict) => verdict.split(" ")[0] === name,
    told: toldOf,
  });
}

function toldOf({ droppable }, verdict) {
  if (verdict.includes(" ")) return `${verdict} of the two`;
  return droppable ? "" : "on the table as a whole: nothing to drop";
}
