// Small parts that all files use.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// It is called by the word that is seen on it, or by its title, if that is a sign.
function button(text, title, onclick) {
  const one = make("button", { type: "button", title, onclick }, text);
  if (!/\p{L}/u.test(text)) one.ariaLabel = title;
  return one;
}

function press(text, title, change) {
  const element = button(text, title, () => change(element.ariaPressed !== "true"));
  element.ariaLabel = text;
  element.ariaPressed = false;
  return element;
}

function choice(name, values, change) {
  const input = make("select", { onchange: () => change(input.value) });
  options(input, values);
  return { input, root: make("label", {}, `${name} `, input) };
}

function options(input, values, say = (v) => v) {
  const known = JSON.stringify(values);
  if (input.known === known) return; // an open list would close
  input.known = known;
  input.replaceChildren(
    ...values.map((v) => make("option", { value: v, title: `${say(v)}` }, `${say(v)}`)),
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

// A message may be late by a kernel: its channel is closed then, which the sleep guard
// says to the reader.
function tellPython(model, content) {
  try {
    model.send(content);
  } catch (error) {
    console.warn(`radwb: nobody hears ${Object.keys(content)}: ${error.message}`);
  }
}

// Change a part of what all panes share.
function setLook(model, changes) {
  set(model, "look", { ...model.get("look"), ...changes });
}

// Text that is cut where it is too long, and whole when one points at it.
function write(element, text) {
  if (element.textContent === text) return; // a screen reader would say it again
  element.textContent = text;
  element.title = text;
}

// What a pane may show: its view, if it is one of the film that is seen.
function freshView(model, n) {
  const view = model.get("views")[n] || {};
  const { case: seen } = model.get("scan");
  return view.case === seen && seen !== undefined ? view : { busy: view.busy };
}

// A number with about three digits that count.
function figure(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return `${value}`;
  const size = Math.abs(value);
  return value.toFixed(size < 1 ? 3 : size < 100 ? 2 : 0);
}

// 1 and 0 of a label, in words
function findingText(value) {
  return { 1: "present", 0: "absent", "-1": "uncertain" }[value] ?? figure(value);
}

function colours(model) {
  return bytes(model.get("about").mix.colours);
}

function bytes(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

// float32 numbers, which may lie at any byte of their buffer
function floats(view) {
  const end = view.byteOffset + view.byteLength;
  return new Float32Array(view.buffer.slice(view.byteOffset, end));
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

// The keys in words, and that it is no medical device.
function footOf(model, help) {
  return make(
    "div",
    { className: "rx-foot" },
    make("span", {}, help),
    make("b", {}, model.get("about").legal),
  );
}
