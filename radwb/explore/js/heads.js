// The grid of heads: a column of means, then a column a head, a row a layer.

function headGrid(model, n, choose) {
  const root = make("div", {
    className: "rx-heads",
    role: "grid",
    ariaLabel: "Attention of each layer and head",
  });
  let buttons = [],
    shape = "",
    shown = [];

  function build(L, H, rows, cols) {
    root.style.setProperty("--columns", H + 1);
    root.style.setProperty(
      "--thumb",
      `${Math.max(18, Math.min(model.get("panes").length > 1 ? 44 : 56, Math.floor(300 / (H + 1))))}px`,
    );
    const top = ["", "mean", ...Array(H).keys()].map((t) => make("span", {}, `${t}`));
    buttons = [];
    const lines = Array.from({ length: L }, (_, l) => [
      make("span", {}, `${l}`),
      ...Array.from({ length: H + 1 }, (_, h) => {
        const name = `layer ${l}, ${h ? `head ${h - 1}` : "mean of heads"}`;
        const pick = () => choose({ layer: l, head: h ? h - 1 : null });
        const one = button("", name, pick);
        one.replaceChildren(make("canvas", { width: cols, height: rows }));
        buttons.push(one);
        return one;
      }),
    ]);
    root.replaceChildren(
      make("div", { className: "rx-head-title" }, "layer ↓ head →"),
      ...top,
      ...lines.flat(),
    );
  }

  root.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key],
      at = buttons.indexOf(event.target);
    if (!by || at < 0) return;
    event.preventDefault();
    const columns = +root.style.getPropertyValue("--columns");
    buttons[at + by * (event.key.endsWith("t") ? 1 : columns)]?.focus();
  };

  function update(view, now) {
    root.hidden = !view.thumbs;
    if (!view.thumbs) return;
    const [rows, cols] = view.tokens,
      { layers: L, heads: H } = view;
    if (shape !== (shape = [L, H, rows, cols].join()))
      (build(L, H, rows, cols), (shown = []));
    const thumbs = bytes(view.thumbs),
      size = rows * cols,
      lut = colours(model);
    const stale = thumbs.some((v, i) => v !== shown[i]);
    shown = thumbs;
    const chosen = model.get("about").of_head.includes(now.method)
      ? (now.layer ?? L - 1) * (H + 1) + (now.head === null ? 0 : now.head + 1)
      : -1;
    buttons.forEach((b, i) => {
      if (stale) paint(b.firstChild, lut, thumbs.subarray(i * size, (i + 1) * size));
      b.ariaPressed = i === chosen;
      b.tabIndex = i === Math.max(0, chosen) ? 0 : -1; // one stop for the Tab key; arrows go on
    });
  }
  return { root, update };
}
