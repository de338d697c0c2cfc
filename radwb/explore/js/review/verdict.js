// What becomes of what was found: its verdicts, by button and by key.

const VERDICT_KEYS = {
  d: "drop",
  k: "keep",
  u: "unsure",
  1: "drop first",
  2: "drop second",
};

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
