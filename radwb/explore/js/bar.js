// The bars above and below the panes.

function toolbar(model, save) {
  const position = make("span", { className: "rx-position", ariaLive: "polite" });
  const sort = press("Worst first", "", (on) => model.send({ worst_first: on }));
  const truth = press("Truth", "Outline what is known to be there", (on) =>
    look({ truth: on }),
  );
  const two = press("Compare", "A second pane", (on) => {
    const panes = model.get("panes");
    set(model, "panes", on ? [panes[0], panes[0]] : panes.slice(0, 1));
  });
  const sliders = {};
  for (const [part, [name, low, high]] of Object.entries(model.get("about").sliders))
    sliders[part] = slider(name, low, high, (value) => look({ [part]: value }));
  const scale = make("canvas", { className: "rx-scale", width: 128, height: 1 });
  paint(
    scale,
    colours(model),
    Uint8Array.from({ length: 128 }, (_, i) => 2 * i),
  );
  const self = { update, root: null, step: () => {} };
  self.root = make(
    "div",
    { className: "rx-bar", role: "toolbar", ariaLabel: "Films" },
    button("◀", "Previous film", () => self.step(-1)),
    button("▶", "Next film", () => self.step(1)),
    position,
    sort,
    truth,
    two,
    button("Save PNG", "Save what is seen", save),
  );
  self.display = make(
    "div",
    { className: "rx-bar rx-display", role: "toolbar", ariaLabel: "Display" },
    ...Object.values(sliders).map((s) => s.root),
    make("span", { className: "rx-legend" }, "low", scale, "high"),
  );

  function look(changes) {
    set(model, "look", { ...model.get("look"), ...changes });
  }

  function update() {
    const order = model.get("order"),
      now = model.get("look");
    position.textContent = `film ${order.indexOf(model.get("case")) + 1} of ${order.length}: ${model.get("scan").name}`;
    sort.ariaPressed = model.get("sorted_by") !== "";
    sort.title = model.get("sorted_by")
      ? `By ${model.get("sorted_by")}`
      : "Films by how little of the first pane's map lies on the truth";
    truth.ariaPressed = now.truth;
    two.ariaPressed = model.get("panes").length > 1;
    for (const [name, s] of Object.entries(sliders)) s.input.value = now[name];
  }
  return self;
}
