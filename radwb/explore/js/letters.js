// The letters that say which side of the patient an edge of the picture is.

function letters(pen, scan, mix, ratio) {
  const known = scan.letters ?? (scan.right ? { [scan.right]: "R" } : {});
  for (const [edge, letter] of Object.entries(known))
    if (letter) mark(pen, letter, edge, mix, ratio);
}

// A letter at an edge: in its upper corner, or in its middle.
function mark(pen, text, edge, { right_mark, right_inset, right_size }, ratio) {
  const [across, down] = right_mark[edge],
    inset = right_inset * ratio,
    size = right_size * ratio;
  const x = inset + across * (pen.canvas.width - 2 * inset);
  const y = down ? pen.canvas.height - inset : inset + 0.875 * size; // of the line that the letter stands on
  say(pen, text, x, y, size, { 0: "left", 1: "right" }[across] ?? "center");
}
