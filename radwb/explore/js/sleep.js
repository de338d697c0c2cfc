// A widget whose kernel is gone says so, and how to wake it.

function sleepGuard(
  model,
  tell,
  wishes = "change:case change:panes change:arranged", // what Python is to answer
) {
  const root = make("div", { className: "rx-sleep", role: "status", hidden: true });
  const session = model.widget_manager?.context?.sessionContext; // a notebook's
  let live; // the widget's own model, of which anywidget shows a part
  let patience = 0; // a timer, while an answer is waited for
  let asleep = false;

  function say(text) {
    write(root, text);
    root.hidden = !text;
  }
  function look() {
    asleep = !isAwake(live, session);
    tell(asleep);
    if (asleep)
      say(
        "Asleep: the kernel that drew this is gone; what you see is the last that it " +
          "drew. To wake it, run the cell above again (Shift + Enter).",
      );
    else if (!patience) say("");
  }
  const soon = () => setTimeout(look); // the kernel's state follows its signal
  function ask() {
    if (asleep || patience || !live) return;
    patience = setTimeout(
      () => say("No answer yet: the kernel is busy with another cell, or stopped."),
      8000,
    );
    tellPython(model, { ping: Date.now() });
  }
  function heard(content) {
    if (!content.pong) return;
    clearTimeout(patience);
    patience = 0;
    look();
  }

  const signals = [session?.statusChanged, session?.kernelChanged].filter(Boolean);
  signals.forEach((signal) => signal.connect(soon));
  model.on("comm_live_update", soon);
  model.on(wishes, ask);
  model.on("msg:custom", heard);
  liveModel(model).then((found) => {
    live = found;
    look();
  });

  function leave() {
    clearTimeout(patience);
    signals.forEach((signal) => signal.disconnect(soon));
    model.off("comm_live_update", soon);
    model.off(wishes, ask);
    model.off("msg:custom", heard);
  }
  return { root, ask, leave };
}

// null where the page can't know: an exported page, whose stand-in says so itself.
async function liveModel(model) {
  const manager = model.widget_manager;
  const { id } = model.get("about");
  if (!id || !manager?.has_model?.(id)) return null;
  return manager.get_model(id);
}

function isAwake(live, session) {
  if (!live) return true;
  if (!live.comm_live) return false;
  if (!session) return true;
  const kernel = session.session?.kernel;
  if (!kernel || kernel.status === "dead") return false;
  return kernel.hasComm?.(live.model_id) ?? true; // not those of a kernel before
}

// A widget that sleeps hears no key; the notebook's save goes on.
function noKeys(event, asleep) {
  const chord = event.ctrlKey || event.metaKey;
  if (asleep && !chord) event.stopPropagation();
}
