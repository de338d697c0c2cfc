// Two pictures at one place: beside a line that is drawn to and fro.

// Right of the line the other picture: the film alone, or the other pane's.
function swiped(pen, other, at, ratio) {
  const { width: W, height: H } = pen.canvas,
    x = Math.round(at * W);
  if (x < W) pen.putImageData(other, 0, 0, x, 0, W - x, H);
  pen.beginPath();
  pen.moveTo(x, 0);
  pen.lineTo(x, H);
  stroke(pen, "white", 1.5 * ratio);
}

// Is a pointer at the line, so that a drag moves it?
function atSwipe(canvas, at, event) {
  if (at === null) return false;
  const box = canvas.getBoundingClientRect();
  return Math.abs(event.clientX - box.left - at * box.width) < 10;
}
