// One pane: controls, scan, heads, words.

function pane(model, n) {
  const { models, methods, targets, of_head, no_layer, no_target } = model.get("about");
  const mine = () => model.get("panes")[n];
  const choose = (changes) =>
    set(
      model,
      "panes",
      model.get("panes").map((p, i) => (i === n ? { ...p, ...changes } : p)),
    );
  const method = choice("Method", methods, (value) =>
    choose({ method: value, layer: null, head: null, patch: null }),
  );
  const which = choice("Model", models, (value) =>
    choose({ model: value, layer: null, head: null, patch: null }),
  );
  const target = choice("Target", [], (value) =>
    value ? choose({ target: value }) : phrase.focus(),
  );
  options(target.input, ["", ...targets], (value) => value || "typed →");
  const layer = choice("Layer", [], (value) =>
    choose({ layer: value === "" ? null : +value }),
  );
  const phrase = make("input", {
    type: "text",
    placeholder: "or type: left effusion vs right effusion",
    ariaLabel: "Phrase",
  });
  phrase.onchange = () =>
    phrase.value.trim() && choose({ target: phrase.value.trim() });
  phrase.onkeydown = (event) => {
    if (event.key === "Enter") phrase.onchange();
  };
  const canvas = make("canvas", { className: "rx-scan", tabIndex: 0, role: "img" });
  const score = make("div", { className: "rx-score" }),
    outlined = make("div", { className: "rx-truths" });
  const label = make("div", { className: "rx-label" }),
    verdict = make("div", { className: "rx-verdict", ariaLive: "polite" });
  const badge = make("span"),
    check = button(
      "Check",
      "Would the map change with other weights or words? Takes a while",
      () => model.send({ check: n }),
    );
  const sanity = make("div", { className: "rx-badge" }, badge, check),
    error = make("div", { className: "rx-error", role: "alert" });
  const said = make("span"),
    share = make("progress", { max: 1, ariaLabel: "Progress" });
  const busy = make(
    "div",
    { className: "rx-busy", role: "status" },
    make("i"),
    said,
    share,
    button("Cancel", "Stop this computation", () => model.send({ cancel: n })),
  );
  const heads = headGrid(model, n, (changes) =>
    choose(
      of_head.includes(mine().method) ? changes : { method: "attention", ...changes },
    ),
  );
  const root = make(
    "section",
    { className: "rx-pane", ariaLabel: `Pane ${n + 1}` },
    make(
      "div",
      { className: "rx-controls" },
      models.length > 1 ? which.root : "",
      method.root,
      layer.root,
      target.root,
      phrase,
    ),
    make(
      "div",
      { className: "rx-stage" },
      make("div", { className: "rx-film" }, label, canvas, busy),
      make(
        "div",
        { className: "rx-side" },
        error,
        verdict,
        score,
        sanity,
        outlined,
        heads.root,
      ),
    ),
  );
  const painter = film(canvas, model, n);
  let asked;
  gestures(canvas, model, n, painter, choose);

  function update() {
    const now = mine(),
      view = model.get("views")[n] || {},
      fresh = view.case === model.get("scan").case;
    method.input.value = now.method;
    which.input.value = now.model;
    options(layer.input, ["", ...Array(view.layers || 0).keys()], (v) =>
      v === "" ? "default" : v,
    );
    layer.input.value = now.layer ?? "";
    target.input.value = targets.includes(now.target) ? now.target : "";
    if (now.target !== asked) phrase.value = target.input.value ? "" : now.target; // else somebody is typing
    asked = now.target;
    label.textContent = view.label || "";
    verdict.textContent =
      view.error || !view.verdict
        ? ""
        : view.score
          ? `On the truth: ${view.finding}`
          : `No ${view.verdict.slice(3)}`;
    score.replaceChildren(...(view.error ? [] : numbers(view.score, view.bright)));
    outlined.replaceChildren(
      ...(model.get("look").truth ? named(model.get("scan").truth, view.finding) : []),
    );
    badge.textContent = view.badge || "";
    sanity.dataset.passed = view.passed;
    sanity.hidden = Boolean(view.error);
    check.hidden = view.passed != null || now.patch !== null;
    layer.input.disabled = no_layer.includes(now.method);
    target.input.disabled = phrase.disabled = no_target.includes(now.method);
    error.textContent = view.error || "";
    said.textContent = view.busy || "";
    const [, done, all] = (view.busy || "").match(/(\d+) of (\d+)/) || [];
    share.hidden = !all;
    share.value = done / all || 0;
    busy.classList.toggle("rx-on", Boolean(view.busy));
    canvas.ariaLabel = `${model.get("scan").name}: ${view.label}. ${view.error || view.verdict}`;
    painter.draw(fresh ? view : {});
    canvas.dataset.case = fresh ? view.case : "";
    heads.update(view, now);
  }
  return {
    root,
    update,
    canvas,
    words: () => {
      const view = model.get("views")[n];
      return [view.label, ...(view.error ? [view.error] : [view.verdict, view.badge])];
    },
  };
}

function numbers(score, bright) {
  if (!score) return [];
  const blind = `by chance ${score.area.toFixed(2)}, by brightness ${(bright ?? 0).toFixed(2)}`;
  const rows = [
    ["hit", score.hit, "peak on it"],
    ["energy", score.energy, blind],
    ["IoU", score.iou, "cut to its size"],
  ];
  return rows.map(([name, value, note]) =>
    make(
      "div",
      {},
      make("span", {}, name),
      make("b", {}, value.toFixed(2)),
      make("small", {}, note),
    ),
  );
}

function named(truth, asked) {
  return Object.entries(truth || {}).map(([finding, { colour }]) => {
    const line = make("i");
    line.style.borderTop = `${finding === asked ? 4 : 2}px solid ${colour}`;
    return make("span", {}, line, finding);
  });
}
