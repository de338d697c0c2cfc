// Lines where the map passes its percentiles, as radwb.show.mix.contours draws them.

// The map's values at its percentiles over the whole film, not over what is seen.
function percentiles(view, shares) {
  const all = spread(view, middles(128), middles(128)).sort();
  return shares.map((share) => {
    const at = share * (all.length - 1),
      low = Math.floor(at),
      high = Math.min(low + 1, all.length - 1);
    return all[low] + (all[high] - all[low]) * (at - low);
  });
}

// How much each of the (H, W) pixels is of a line, of its dark edge, and of which level:
// a value's distance to the level over its slope is the distance to the line, in px.
function contours(values, H, W, levels, half, edge) {
  const ink = new Uint8ClampedArray(H * W),
    rim = new Uint8ClampedArray(H * W),
    of = new Uint8Array(H * W);
  for (let r = 0, i = 0; r < H; r++)
    for (let c = 0; c < W; c++, i++) {
      const value = values[i];
      const slope = Math.hypot(
        lesser(value, values[i - 1], values[i + 1], c > 0, c < W - 1),
        lesser(value, values[i - W], values[i + W], r > 0, r < H - 1),
      );
      if (!slope) continue;
      levels.forEach((level, n) => {
        const away = Math.abs(value - level) / slope;
        const covered = 255 * Math.min(1, half + 0.5 - away);
        rim[i] = Math.max(rim[i], 255 * Math.min(1, half + edge + 0.5 - away));
        if (covered <= ink[i]) return;
        ink[i] = covered;
        of[i] = n;
      });
    }
  return { ink, rim, of };
}

// The smaller step to a neighbour: the border of the crop is no slope.
function lesser(value, before, after, hasBefore, hasAfter) {
  const back = hasBefore ? Math.abs(value - before) : Infinity,
    on = hasAfter ? Math.abs(after - value) : Infinity;
  return back === Infinity && on === Infinity ? 0 : Math.min(back, on);
}

// The lines over a picture of RGBA bytes.
function drawContours(data, { ink, rim, of }, lut, steps, alpha) {
  for (let i = 0; i < ink.length; i++) {
    if (!rim[i]) continue;
    const dark = 1 - (0.6 * alpha * rim[i]) / 255,
      share = (alpha * ink[i]) / 255,
      step = 3 * steps[of[i]];
    for (let k = 0; k < 3; k++)
      data[4 * i + k] = data[4 * i + k] * dark * (1 - share) + lut[step + k] * share;
  }
}
