// What stands beside a map: the model's score, what the map is worth, the words.

function wordsOf(model, n) {
  const error = make("div", { className: "rx-error", role: "alert" });
  const said = make("div", { className: "rx-said" });
  const doubt = make("div", { className: "rx-doubt", role: "status" });
  const verdict = make("div", { className: "rx-verdict", ariaLive: "polite" });
  const score = make("div", { className: "rx-score" });
  const truths = make("div", { className: "rx-truths" });
  const sanity = badgeLine(model, n);
  const root = make(
    "div",
    { className: "rx-words" },
    error,
    said,
    doubt,
    verdict,
    score,
    sanity.root,
    truths,
  );

  function update(view, now) {
    const { error: unread, truth = {} } = model.get("scan");
    const wrong = unread || view.error || "";
    write(error, wrong);
    write(said, wrong ? "" : saidOf(view.said));
    write(doubt, wrong ? "" : doubtOf(view.words));
    write(verdict, wrong ? "" : verdictOf(view));
    score.replaceChildren(...numbers(wrong ? null : view.score, view.bright));
    score.hidden = Boolean(wrong);
    sanity.update(view, now, wrong);
    const outlined = model.get("look").truth && !unread;
    truths.replaceChildren(...(outlined ? named(truth, view.finding) : []));
  }
  return { root, update };
}

function saidOf(said) {
  if (!said) return "";
  return `Model: ${[said.text, said.busy].filter(Boolean).join("; ")}`;
}

function doubtOf(words) {
  if (!words) return "";
  const alike = words.nonsense;
  const null_map =
    typeof alike === "number"
      ? `Likeness to the map of nonsense words: ${alike.toFixed(2)}.`
      : "";
  return [words.text, null_map].filter(Boolean).join(" ");
}

function verdictOf({ verdict, score, finding }) {
  if (!verdict) return "";
  if (score) return `On the truth: ${finding}`;
  return verdict[0].toUpperCase() + verdict.slice(1);
}

function badgeLine(model, n) {
  const badge = make("span");
  const check = button(
    "Check",
    "Would the map change with other weights or words? Takes a while",
    () => tellPython(model, { check: n }),
  );
  const root = make("div", { className: "rx-badge" }, badge, check);
  function update(view, now, wrong) {
    write(badge, view.badge || "");
    root.dataset.passed = view.passed;
    root.classList.toggle("rx-blank", Boolean(wrong) || !view.badge);
    check.hidden = view.passed != null || now.patch !== null;
  }
  return { root, update };
}

// Always three, so that nothing jumps; blank while they aren't known.
function numbers(score, bright) {
  const blind = score
    ? `by chance ${score.area.toFixed(2)}, by brightness ${(bright ?? 0).toFixed(2)}`
    : "";
  const rows = [
    ["hit", score?.hit, "peak on it"],
    ["energy", score?.energy, blind],
    ["IoU", score?.iou, "cut to its size"],
  ];
  return rows.map(([name, value, note]) =>
    make(
      "div",
      {},
      make("span", {}, name),
      make("b", {}, value === undefined ? "–" : value.toFixed(2)),
      make("small", {}, note),
    ),
  );
}

function named(truth, asked) {
  return Object.entries(truth).map(([finding, { colour, dash }]) =>
    make("span", {}, sample(colour, dash, finding === asked ? 7 : 4), finding),
  );
}

// A piece of the line that outlines a finding.
function sample(colour, dash, width) {
  const canvas = make("canvas", { width: 56, height: 18 });
  const pen = brush(canvas);
  Object.assign(pen, { strokeStyle: colour, lineWidth: width });
  pen.setLineDash((dash || []).map((part) => 2 * part));
  pen.moveTo(0, 9);
  pen.lineTo(56, 9);
  pen.stroke();
  return canvas;
}
