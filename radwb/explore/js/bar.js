// The bars above and below the panes.

function toolbar(model, { strip, link, save }) {
  const position = make("span", { className: "rx-position", ariaLive: "polite" });
  const films = press(
    "Films",
    "Show the films as a strip, to sort and filter",
    (on) => {
      strip.root.hidden = !on;
      films.ariaPressed = on;
      strip.update();
    },
  );
  films.ariaPressed = !strip.root.hidden;
  const sort = press("Worst first", "", (on) =>
    arrange(model, { by: on ? "map on truth" : "", down: false }),
  );
  const truth = press("Truth", "Outline what is known to be there", (on) =>
    setLook(model, { truth: on }),
  );
  const two = press("Compare", "A second pane", (on) => {
    const panes = model.get("panes");
    set(model, "panes", on ? [panes[0], panes[0]] : panes.slice(0, 1));
  });
  const root = make(
    "div",
    { className: "rx-bar", role: "toolbar", ariaLabel: "Films" },
    button("◀", "Previous film", () => step(model, -1)),
    button("▶", "Next film", () => step(model, 1)),
    position,
    films,
    sort,
    truth,
    two,
    button("Copy link", "Copy the line that opens this view again", link.ask),
    button("Save PNG", "Save what is seen", save),
  );
  const display = displayBar(model);

  function update() {
    const arranged = model.get("arranged") || {};
    place(position, model);
    sort.ariaPressed = arranged.by === "map on truth";
    sort.title = arranged.label
      ? `By ${arranged.label}`
      : "Films by how little of the first pane's map lies on the truth";
    truth.ariaPressed = model.get("look").truth;
    two.ariaPressed = model.get("panes").length > 1;
    display.update();
  }
  return { root, update, display: display.root };
}

// Which film is seen: not the one that is asked for, while that is still read.
function place(position, model) {
  const order = model.get("order");
  const scan = model.get("scan");
  const at = order.indexOf(scan.case) + 1;
  const kept = order.length === allFilms(model) ? "" : ` kept of ${allFilms(model)}`;
  write(position, `film ${at || "–"} of ${order.length}${kept}: ${scan.name ?? ""}`);
  position.classList.toggle("rx-waits", scan.case !== model.get("case"));
}

function allFilms(model) {
  return model.get("films")?.length || model.get("order").length;
}

function arrange(model, changes) {
  const before = model.get("arranged") || { keep: {} };
  set(model, "arranged", { ...before, label: "", ...changes });
}

function displayBar(model) {
  const sliders = {};
  for (const [part, [name, low, high]] of Object.entries(model.get("about").sliders))
    sliders[part] = slider(name, low, high, (value) =>
      setLook(model, { [part]: value }),
    );
  const root = make(
    "div",
    { className: "rx-bar rx-display", role: "toolbar", ariaLabel: "Display" },
    ...Object.values(sliders).map((s) => s.root),
  );
  function update() {
    const now = model.get("look");
    for (const [name, s] of Object.entries(sliders)) s.input.value = now[name];
  }
  return { root, update };
}
