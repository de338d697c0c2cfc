// Put before a widget's own module: a plain function, nothing is imported or exported.

// JupyterLab takes keys on the document, as they bubble up to it, and binds single
// letters to what has the focus within a notebook: x cuts the cell. So a widget lets no
// key bubble out of it but that which saves the notebook. Notebook 7 takes keys on the
// document before they come down to the widget. Lumino, which both use, passes over an
// element with the attribute data-lm-suppress-shortcuts, but only if what has the focus
// carries it itself; so it gets it for as long as a key is on its way.
function keepKeys(element) {
  if (!element.hasAttribute("tabindex")) element.tabIndex = -1;
  element.dataset.radwbKeys = "kept";
  // a click on a picture takes the focus, and with it the keys, from the notebook
  element.addEventListener("pointerdown", () => {
    const inside = element.contains(document.activeElement);
    if (!inside) element.focus({ preventScroll: true });
  }, true);
  element.addEventListener("keydown", (event) => {
    if (!savesNotebook(event)) event.stopPropagation();
  });
  if (window.radwbKeepsKeys) return; // one listener a page, whatever comes and goes
  window.radwbKeepsKeys = true;
  window.addEventListener("keydown", (event) => {
    const focus = event.target;
    if (!focus.closest?.("[data-radwb-keys]")) return;
    // of the Control key, which came a moment before
    delete focus.dataset.lmSuppressShortcuts;
    if (savesNotebook(event)) return;
    focus.dataset.lmSuppressShortcuts = "true";
    setTimeout(() => delete focus.dataset.lmSuppressShortcuts);
  }, true);
}

function savesNotebook(event) {
  const chord = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
  return chord && event.key.toLowerCase() === "s";
}
