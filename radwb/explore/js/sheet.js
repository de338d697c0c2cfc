// The figure that is saved.

function sheet(panes, model) {
  const wide = Math.max(...panes.map((p) => p.canvas.width)),
    ratio = window.devicePixelRatio || 1,
    line = 20 * ratio;
  const tall = Math.max(...panes.map((p) => p.canvas.height)),
    gap = 12 * ratio;
  const out = make("canvas", {
    width: panes.length * (wide + gap) + gap,
    height: tall + 6 * line,
  });
  const pen = brush(out);
  Object.assign(pen, { fillStyle: "white" });
  pen.fillRect(0, 0, out.width, out.height);
  pen.font = `${13 * ratio}px system-ui, sans-serif`;
  panes.forEach((p, n) => {
    const x = gap + n * (wide + gap),
      [title, ...rest] = p.words();
    pen.fillStyle = "#1f2933";
    pen.fillText(`${model.get("panes")[n].model}. ${title}`, x, line, wide);
    pen.drawImage(p.canvas, x, 1.5 * line);
    rest.forEach((text, i) => pen.fillText(text, x, tall + (2.5 + i) * line, wide));
  });
  pen.fillStyle = "#52606d";
  pen.fillText(
    `${model.get("scan").name}. ${model.get("about").legal}.`,
    gap,
    out.height - line / 2,
  );
  return out;
}
