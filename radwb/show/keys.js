// Put before a widget's own module: a plain function, nothing is imported or exported.

// JupyterLab and Notebook take keys on the document, as they bubble up to it, and bind
// single letters to what has the focus within a notebook: x cuts the cell. So a widget
// lets no key bubble out of it but that which saves the notebook. (The attribute
// data-lm-suppress-shortcuts does the opposite: it stops what is bound to the notebook,
// as saving is, not what is bound to the element that has the focus.)
function keepKeys(element) {
  if (!element.hasAttribute("tabindex")) element.tabIndex = -1;
  // a click on a picture takes the focus, and with it the keys, from the notebook
  element.addEventListener("pointerdown", () => {
    const inside = element.contains(document.activeElement);
    if (!inside) element.focus({ preventScroll: true });
  }, true);
  element.addEventListener("keydown", (event) => {
    const chord = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
    const saves = chord && event.key.toLowerCase() === "s";
    if (!saves) event.stopPropagation();
  });
}
