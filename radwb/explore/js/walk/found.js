// What was found, in words, and the sides that show it.

// `badge`: what of the thing shown stands before the sentence, by its name in `shown`.
function foundWords(model, badge, hasValue = false) {
  const severity = make("span", { className: "rr-severity" });
  const sentence = make("span", { className: "rr-sentence" });
  const value = make("b", { className: "rr-value" });
  const root = make(
    "div",
    { className: "rr-found", ariaLive: "polite" },
    severity,
    sentence,
  );
  if (hasValue) root.append(value);
  function update() {
    const shown = model.get("shown");
    write(severity, shown[badge] || "");
    severity.dataset.severity = shown[badge];
    write(sentence, shown.sentence || "");
    write(value, shown.value || "");
    root.hidden = !shown.of;
  }
  return { root, update };
}

// A film, or what is known of it, by the name that a screen reader says.
function sideCalled(name, ...parts) {
  return make("section", { className: "rr-side", ariaLabel: name }, ...parts);
}
