// The frame of a window that shows one thing after another: it sleeps without its
// kernel, keeps its keys, and paints all its parts when another thing comes.

function framed(
  model,
  el,
  { kind, name, body: inside, parts, help, keys, wishes, arrived },
) {
  const root = make("div", {
    className: `rx ${kind}`,
    tabIndex: 0,
    role: "group",
    ariaLabel: name,
  });
  const body = make(
    "fieldset", // one word turns all its controls off
    { className: "rx-body", ariaLabel: inside },
    ...parts.map((part) => part.root),
    footOf(model, help),
  );
  const sleep = sleepGuard(model, slept, wishes);

  function slept(asleep) {
    holdFocus(root, () => (body.disabled = asleep));
    root.classList.toggle("rx-asleep", asleep);
  }
  function update() {
    holdFocus(root, () => parts.forEach((part) => part.update?.()));
    arrived?.();
    root.dataset.painted = +(root.dataset.painted || 0) + 1;
  }
  function pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey)
      return;
    const typing = event.target.matches("select, textarea, input:not([type=range])");
    const slides = event.target.type === "range" && event.key.startsWith("Arrow");
    if (event.key === "Escape" && typing) root.focus();
    if (typing || slides || event.shiftKey || event.target.matches(".rr-text")) return;
    if (keys(event.key)) event.preventDefault();
  }

  root.append(sleep.root, body);
  root.addEventListener("keydown", (event) => noKeys(event, body.disabled), true);
  root.addEventListener("keydown", pressed);
  keepKeys(root);
  el.append(root);
  model.on("change:shown", update);
  update();
  function leave() {
    model.off("change:shown", update);
    for (const part of [...parts, sleep]) part.leave?.();
  }
  return { root, ask: sleep.ask, leave };
}

// What has the focus may go or be turned off: the notebook would hear the next key.
function holdFocus(root, change) {
  const held = root.contains(document.activeElement);
  change();
  const focus = document.activeElement;
  const lost = !root.contains(focus) || focus.matches(":disabled");
  if (held && lost) root.focus({ preventScroll: true });
}

// Pictures that Python sent as bytes, which the browser holds until they are let go.
function pictures() {
  let addresses = [];
  function of(picture, alt, className, type = "image/jpeg") {
    const src = URL.createObjectURL(new Blob([picture], { type }));
    addresses.push(src);
    return make("img", { className, alt, src });
  }
  function forget() {
    addresses.forEach((address) => URL.revokeObjectURL(address));
    addresses = [];
  }
  return { of, forget };
}

// (name, text) pairs of what is known of a film.
function factsInLine(facts) {
  const box = make("div", { className: "rx-facts-short rr-facts" });
  box.append(
    ...facts.map(([name, text]) => make("span", {}, make("i", {}, name), text)),
  );
  return box;
}
