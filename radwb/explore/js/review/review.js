// The widget for what an audit flagged: `render` puts it on a page. Python sends what
// stands at a place when it is asked for, and nothing of all the others.

export default { render };

function render({ model, el }) {
  const walk = walker(model);
  const verdicts = verdictBox(model, () => frame.ask());
  const frame = framed(model, el, {
    kind: "rr",
    name: "Review of what was flagged",
    body: "What was flagged",
    parts: [
      walkBar(model, walk, {
        all: "Things flagged",
        one: "thing flagged",
        kept: "Flagged for",
      }),
      foundWords(model, "severity", true),
      verdicts,
      sidesOf(model, verdicts),
    ],
    help:
      "← → other things flagged · n: next without a verdict · d, k, u: drop, keep, unsure, " +
      "and on · 1, 2: drop the first or the second of a pair · a saved notebook keeps " +
      "the films and names seen last, no report and no note",
    keys: walkKeys(walk, verdicts, VERDICT_KEYS),
    wishes: "change:at change:keep",
    arrived: walk.arrived,
  });
  return frame.leave;
}
