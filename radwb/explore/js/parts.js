// Small parts that all files use.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function button(text, title, onclick) {
  return make("button", { type: "button", title, ariaLabel: title, onclick }, text);
}

function press(text, title, change) {
  const element = button(text, title, () => change(element.ariaPressed !== "true"));
  element.ariaLabel = text;
  return element;
}

function choice(name, values, change) {
  const input = make("select", { onchange: () => change(input.value) });
  options(input, values);
  return { input, root: make("label", {}, `${name} `, input) };
}

function options(input, values, say = (v) => v) {
  if (input.options.length !== values.length)
    input.replaceChildren(
      ...values.map((v) => make("option", { value: v }, `${say(v)}`)),
    );
}

function slider(name, min, max, change) {
  const input = make("input", {
    type: "range",
    min,
    max,
    step: 0.01,
    oninput: () => change(+input.value),
  });
  return { input, root: make("label", {}, `${name} `, input) };
}

function set(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

function colours(model) {
  return bytes(model.get("about").mix.colours);
}

function bytes(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function paint(canvas, lut, values) {
  const image = new ImageData(canvas.width, canvas.height);
  values.forEach((v, i) =>
    image.data.set([lut[3 * v], lut[3 * v + 1], lut[3 * v + 2], 255], 4 * i),
  );
  brush(canvas).putImageData(image, 0, 0);
}

// Small pictures that change often: drawn by the processor, since a software GPU takes a third of a second for them.
function brush(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}
