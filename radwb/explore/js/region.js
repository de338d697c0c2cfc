// Asking for patches: one, the next, a region, or the one under the pointer.

function patches(film, model, n, choose, tools) {
  const pane = () => model.get("panes")[n];
  const able = () => film.view.tokens && film.view.thumbs && film.view.source;
  const same = (a, b) => [a].flat().join() === [b].flat().join();

  // What a pane changes, so that it shows these patches.
  function shown(now, patch) {
    const keep = now.method === "attention" ? {} : { layer: null, head: null };
    return { method: "attention", ...keep, patch };
  }

  function ask(patch) {
    choose(shown(pane(), patch));
    if (!tools.link) return;
    const panes = model.get("panes").map((now, i) => {
      const other = tools.films[i]?.view;
      if (i === n || !other?.tokens || !other.thumbs) return now;
      return { ...now, ...shown(now, patch === null ? null : across(patch, other)) };
    });
    set(model, "panes", panes);
  }

  // The patches of another pane's grid at the same places of the film.
  function across(patch, other) {
    const found = [patch].flat().map((one) => {
      const [left, top, right, bottom] = patchBox(film.view, one);
      return patchAt(other, (left + right) / 2, (top + bottom) / 2);
    });
    return few(found.filter((one) => one !== null));
  }

  function few(list) {
    const sorted = [...new Set(list)].sort((a, b) => a - b);
    return sorted.length > 1 ? sorted : (sorted[0] ?? null);
  }

  return {
    ask,
    able,
    at: ([u, v]) => (able() ? patchAt(film.view, u, v) : null),
    pick: (patch) => ask(same(patch, pane().patch) ? null : patch),
    region(path) {
      if (able()) ask(few(patchesIn(film.view, path)));
    },
    step(dy, dx) {
      if (!able()) return;
      const [rows, cols] = film.view.tokens,
        now = [pane().patch].flat()[0];
      if (now == null) return ask(Math.floor(rows / 2) * cols + Math.floor(cols / 2));
      const row = Math.floor(now / cols) + dy,
        col = (now % cols) + dx;
      if (row >= 0 && row < rows && col >= 0 && col < cols) ask(row * cols + col);
    },
    // The region's box, one row or column larger.
    grow(dy, dx) {
      const now = [pane().patch].flat();
      if (!able() || now[0] == null) return this.step(dy, dx);
      const [rows, cols] = film.view.tokens;
      const lines = now.map((one) => Math.floor(one / cols)),
        columns = now.map((one) => one % cols);
      const top = Math.max(0, Math.min(...lines) + Math.min(0, dy)),
        bottom = Math.min(rows - 1, Math.max(...lines) + Math.max(0, dy)),
        left = Math.max(0, Math.min(...columns) + Math.min(0, dx)),
        right = Math.min(cols - 1, Math.max(...columns) + Math.max(0, dx));
      const all = [];
      for (let r = top; r <= bottom; r++)
        for (let c = left; c <= right; c++) all.push(r * cols + c);
      ask(few(all));
    },
  };
}

// One question at a time, and the newest wins: Python isn't flooded.
function hovering(film, model, n, asker) {
  let before = null, // the panes as they were
    wanted = null,
    asked = null,
    since = 0;

  function next() {
    if (asked !== null && performance.now() - since < 3000) return;
    asked = null;
    if (wanted === null || wanted === model.get("panes")[n].patch) return;
    asked = wanted;
    since = performance.now();
    asker.ask(wanted);
  }

  return {
    over(patch) {
      if (patch === null || patch === wanted) return;
      before ??= model.get("panes");
      wanted = patch;
      next();
    },
    answered(view) {
      if (asked === null || (view.choice?.patch !== asked && !view.error)) return;
      asked = null;
      next();
    },
    leave() {
      if (before) set(model, "panes", before);
      before = wanted = asked = null;
    },
    // A click while hovering: what is shown stays.
    keep() {
      const hovered = before !== null;
      before = wanted = asked = null;
      return hovered;
    },
  };
}
