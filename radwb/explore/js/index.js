// The attention widget: `render` puts it on a page.
//
// Python sends the film once a case and each map as a small grid; all else is drawn
// here, with the constants of radwb.show.mix (`about.mix`), so that the picture is the
// one that Python draws. The files of this folder are joined into one module.

export default { render };

function render({ model, el }) {
  const root = el.appendChild(
    make("div", {
      className: "rx",
      tabIndex: 0,
      role: "group",
      ariaLabel: "Attention explorer",
    }),
  );
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
  const bar = toolbar(model, save);
  const stage = make("div", { className: "rx-panes" });
  const help =
    "← → film · drag: window, level (double click: reset) · click, Shift + arrows: what a patch attends to (Esc: none)";
  root.append(
    bar.root,
    stage,
    bar.display,
    make(
      "div",
      { className: "rx-foot" },
      make("span", {}, help),
      make("b", {}, model.get("about").legal),
    ),
  );
  let panes = [];

  function update() {
    const wanted = model.get("panes").length;
    if (wanted !== panes.length) {
      panes = Array.from({ length: wanted }, (_, n) => pane(model, n));
      stage.replaceChildren(...panes.map((p) => p.root));
      root.classList.toggle("rx-two", wanted > 1);
    }
    bar.update();
    panes.forEach((p) => p.update());
    root.dataset.painted = +(root.dataset.painted || 0) + 1;
  }

  function step(by) {
    const order = model.get("order");
    const at = order.indexOf(model.get("case")) + by;
    if (at >= 0 && at < order.length) set(model, "case", order[at]);
  }

  function save() {
    const name = `${model.get("scan").name}.png`.replace(/[^\w.-]+/g, "_");
    sheet(panes, model).toBlob((blob) => {
      const link = make("a", { href: URL.createObjectURL(blob), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  bar.step = step;
  root.addEventListener("keydown", (event) => {
    if (
      event.target.matches("input, select") ||
      event.shiftKey ||
      event.defaultPrevented
    )
      return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  const names = ["case", "order", "sorted_by", "panes", "look", "scan", "views"]
    .map((name) => `change:${name}`)
    .join(" ");
  model.on(names, update);
  update();
  return () => model.off(names, update);
}
