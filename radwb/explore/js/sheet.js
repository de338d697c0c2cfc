// The figure that is saved: what is seen, with its words wrapped below it.

function sheet(panes, model) {
  const ratio = window.devicePixelRatio || 1,
    line = 20 * ratio,
    gap = 12 * ratio;
  const wide = Math.max(...panes.map((p) => p.canvas.width), 320 * ratio),
    tall = Math.max(...panes.map((p) => p.canvas.height));
  const font = `${13 * ratio}px system-ui, sans-serif`,
    measure = Object.assign(brush(make("canvas")), { font });
  const across = panes.length * (wide + gap) - gap;
  const columns = panes.map((p, n) =>
    captions(p, model.get("panes")[n], measure, wide),
  );
  const above = Math.max(...columns.map(({ title }) => title.length)) * line,
    below = Math.max(...columns.map(({ rest }) => rest.length + 1)) * line;
  const foot = wrapped(
    measure,
    `${model.get("scan").name}. ${model.get("about").legal}.`,
    across,
  );
  const out = make("canvas", {
    width: across + 2 * gap,
    height: above + tall + below + (foot.length + 2) * line,
  });
  const pen = Object.assign(brush(out), { fillStyle: "white" });
  pen.fillRect(0, 0, out.width, out.height);
  pen.font = font;
  panes.forEach((p, n) => {
    const x = gap + n * (wide + gap),
      under = above + line / 2 + tall;
    pen.fillStyle = "#1f2933";
    writeLines(pen, columns[n].title, x, line, line);
    if (p.canvas.width) pen.drawImage(p.canvas, x, above + line / 2);
    scaleUnder(pen, p, model, x, under + 0.75 * line, ratio);
    writeLines(pen, columns[n].rest, x, under + 2 * line, line);
  });
  pen.fillStyle = "#52606d";
  writeLines(pen, foot, gap, out.height - (foot.length - 0.5) * line, line);
  return out;
}

function captions(pane, { model }, pen, wide) {
  const [title, ...rest] = pane.words().filter(Boolean);
  return {
    title: wrapped(pen, `${model}. ${title ?? ""}`, wide),
    rest: rest.flatMap((text) => wrapped(pen, text, wide)),
  };
}

// The colours and the values at their ends, as under the film.
function scaleUnder(pen, pane, model, x, y, ratio) {
  const range = pane.film.range();
  if (!range) return;
  const [low, high] = range.map(short),
    ramp = make("canvas", { width: 256, height: 1 });
  paint(
    ramp,
    colours(model),
    Uint8Array.from({ length: 256 }, (_, i) => i),
  );
  const left = x + pen.measureText(low).width + 6 * ratio;
  pen.fillText(low, x, y + 4 * ratio);
  pen.drawImage(ramp, left, y - 4 * ratio, 120 * ratio, 8 * ratio);
  pen.fillText(high, left + 126 * ratio, y + 4 * ratio);
}

// A text in lines that fit, broken between words, and within a word that doesn't.
function wrapped(pen, text, wide) {
  const found = [];
  let now = "";
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const longer = now ? `${now} ${word}` : word;
    if (pen.measureText(longer).width <= wide) {
      now = longer;
      continue;
    }
    if (now) found.push(now);
    now = word;
    while (pen.measureText(now).width > wide) {
      let fits = now.length - 1;
      while (fits > 1 && pen.measureText(now.slice(0, fits)).width > wide) fits--;
      found.push(now.slice(0, fits));
      now = now.slice(fits);
    }
  }
  return now ? [...found, now] : found;
}

function writeLines(pen, texts, x, y, line) {
  texts.forEach((text, n) => pen.fillText(text, x, y + n * line));
}
