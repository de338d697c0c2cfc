// The widget of a reading study: `render` puts it on a page. It knows of a film its
// picture, and of the model what it says; what is true of either stays in Python.

export default { render };

function render({ model, el }) {
  const answers = answerBox(model, () => frame.ask());
  const stage = filmToRead(model, answers);
  const frame = framed(model, el, {
    kind: "rr rs",
    name: "Reading study",
    body: "Reading study",
    parts: [progressOf(model), waitBox(model, answers), stage, answers],
    help:
      "y, n: there or not · 0 to 9: how sure in tens, ← → by one · Enter: save and on · " +
      "a reading is final · a saved notebook keeps no film",
    keys: answers.key,
    wishes: "change:shown",
  });
  return frame.leave;
}

function progressOf(model) {
  const place = make("span", { className: "rx-position", ariaLive: "polite" });
  const bar = make("progress", { ariaLabel: "Readings made" });
  const { reader } = model.get("about");
  const root = make(
    "div",
    { className: "rx-bar" },
    make("span", { className: "rr-done" }, `Reader ${reader}`),
    place,
    bar,
  );
  function update() {
    const { state, number, of, sitting, sittings } = model.get("shown");
    const part = sittings > 1 ? ` · sitting ${sitting} of ${sittings}` : "";
    write(place, state === "done" ? "Done" : `Reading ${number} of ${of}${part}`);
    bar.max = of ?? 1;
    bar.value = state === "done" ? 1 : number - 1;
  }
  return { root, update };
}

// Before the first film, between two sittings, and at the end.
function waitBox(model, answers) {
  const words = make("p", { className: "rs-words", role: "status" });
  const go = button("Begin", "Show the first film (Enter)", () => answers.begin());
  const root = make("div", { className: "rs-wait" }, words, go);
  function update() {
    const { state, number, sitting, words: outcome } = model.get("shown");
    root.hidden = state === "read";
    go.hidden = state !== "wait";
    if (state === "done") write(words, outcome);
    else write(words, waitWords(model.get("about").finding, number, sitting));
  }
  return { root, update };
}

function waitWords(finding, number, sitting) {
  const asked =
    `Is there ${finding}? Say how sure you are that it is there, from 0 (surely not) to ` +
    "100 (surely), and yes or no. Some films come with the model's advice, which may be " +
    "wrong. The time from film to answer is kept.";
  if (number === 1) return asked;
  if (sitting > 1) return `A further sitting, best after a break. ${asked}`;
  return `It goes on where you left. ${asked}`;
}

function filmToRead(model, answers) {
  const films = pictures();
  const advice = make("div", { className: "rs-advice", role: "status" });
  const stack = make("div", { className: "rg-stack" });
  const root = sideCalled("Film", advice, stack);
  let known;
  function update() {
    const { state, number, film, problem, advice: said } = model.get("shown");
    root.hidden = state !== "read";
    write(advice, said || "");
    advice.hidden = !said;
    if (number === known && state === "read") return;
    films.forget();
    known = state === "read" ? number : undefined;
    if (state !== "read") return stack.replaceChildren();
    if (problem) return stack.replaceChildren(unread(model, problem, number));
    const image = films.of(film, `Film to read, number ${number}`, "rr-film");
    image.onload = answers.seen;
    stack.replaceChildren(image);
  }
  return { root, update, leave: films.forget };
}

function unread(model, problem, number) {
  return make(
    "div",
    { className: "rx-error", role: "note" },
    problem,
    button("Leave it out", "Go on without this film", () =>
      tellPython(model, { skip: true, number }),
    ),
  );
}

function answerBox(model, asked) {
  const { finding } = model.get("about");
  const sure = slider("How sure that it is there", 0, 100, moved);
  sure.input.step = 1;
  const value = make("b", { className: "rs-value" });
  const yes = press("Yes", "It is there (y)", () => choose(1));
  const no = press("No", "It isn't there (n)", () => choose(0));
  const save = button("Save and on", "Save this reading (Enter)", send);
  const problem = make("div", { className: "rx-problem", role: "alert" });
  const root = make(
    "div",
    {
      className: "rx-bar rx-notes rs-answer",
      role: "group",
      ariaLabel: "Your reading",
    },
    sure.root,
    value,
    make("span", {}, `${finding}?`),
    yes,
    no,
    save,
    problem,
  );
  let number; // the reading that these are of
  let answer = null;
  let confidence = null; // nothing is given before a hand gave it
  let shownAt = 0;
  let sent = false;

  function paint() {
    yes.ariaPressed = answer === 1;
    no.ariaPressed = answer === 0;
    write(value, confidence === null ? "–" : `${confidence}`);
    sure.input.value = confidence ?? 50;
    save.ariaDisabled = answer === null || confidence === null;
  }
  function moved(to) {
    confidence = Math.min(Math.max(to, 0), 100);
    paint();
  }
  function choose(what) {
    answer = what;
    paint();
  }
  const reads = () =>
    model.get("shown").state === "read" && !model.get("shown").problem;
  function send() {
    if (!reads() || answer === null || confidence === null || sent) return;
    sent = true;
    const seconds = (performance.now() - shownAt) / 1000;
    tellPython(model, { read: { confidence, answer, seconds }, number });
    asked();
  }
  function begin() {
    tellPython(model, { begin: true });
    asked();
  }
  function update() {
    const shown = model.get("shown");
    root.hidden = !reads();
    if (shown.number === number && shown.state === "read") return;
    number = shown.state === "read" ? shown.number : undefined;
    answer = null;
    confidence = null;
    sent = false;
    shownAt = performance.now();
    write(problem, "");
    paint();
  }
  function key(letter) {
    if (letter === "Enter" && model.get("shown").state === "wait") begin();
    else if (!reads()) return false;
    else if (letter === "Enter") send();
    else if (letter === "y" || letter === "n") choose(letter === "y" ? 1 : 0);
    else if (/^[0-9]$/.test(letter)) moved(10 * letter);
    else if (letter === "ArrowLeft") moved((confidence ?? 50) - 1);
    else if (letter === "ArrowRight") moved((confidence ?? 50) + 1);
    else return false;
    return true;
  }
  function heard({ noted }) {
    if (!noted?.error) return;
    sent = false; // it stays in sight, and can be sent again
    write(problem, noted.error);
  }
  model.on("msg:custom", heard);
  return {
    root,
    update,
    key,
    begin,
    seen: () => (shownAt = performance.now()),
    leave: () => model.off("msg:custom", heard),
  };
}
