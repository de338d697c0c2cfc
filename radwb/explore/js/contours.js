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
    of = new Uint8Array(H * W),
    reach = half + edge + 0.5;
  for (let r = 0, i = 0; r < H; r++)
    for (let c = 0; c < W; c++, i++) {
      const value = values[i],
        dx = lesser(value, values, c > 0 ? i - 1 : i, i, c < W - 1 ? i + 1 : i),
        dy = lesser(value, values, r > 0 ? i - W : i, i, r < H - 1 ? i + W : i),
        slope = Math.sqrt(dx * dx + dy * dy);
      for (let n = 0; n < levels.length; n++) {
        const away = Math.abs(value - levels[n]);
        if (away >= reach * slope) continue; // as most pixels are
        const px = away / slope;
        rim[i] = Math.max(rim[i], 255 * Math.min(1, reach - px));
        const covered = 255 * Math.min(1, half + 0.5 - px);
        if (covered <= ink[i]) continue;
        ink[i] = covered;
        of[i] = n;
      }
    }
  return { ink, rim, of };
}

// The smaller step to a neighbour, where there are two: the border of the crop is no
// slope.
function lesser(value, values, before, i, after) {
  const back = Math.abs(value - values[before]),
    on = Math.abs(values[after] - value);
  return before === i || after === i ? back + on : Math.min(back, on);
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
