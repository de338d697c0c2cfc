// The evidence: a film or two beside each other, with what is known of them, and texts
// with the words that were found.

function sidesOf(model, verdicts) {
  const root = make("div", { className: "rr-sides" });
  const films = pictures();
  let known;

  function update() {
    const { number, sides = [], pair } = model.get("shown");
    if (number === known) return;
    known = number;
    films.forget();
    root.replaceChildren(
      ...sides.map((side, n) => oneSide(side, n, sides, pair, films, verdicts)),
    );
    if (sides.length) tellPython(model, { texts: true });
  }
  function heard({ texts, number }) {
    if (!texts || number !== known) return;
    const { sides } = model.get("shown");
    texts.forEach((text, n) => {
      const box = textOfSide(text, n, sides);
      root.children[n].querySelector(".rr-report").replaceChildren(...box);
    });
  }
  model.on("msg:custom", heard);
  function leave() {
    films.forget();
    model.off("msg:custom", heard);
  }
  return { root, update, leave };
}

function oneSide(side, n, sides, pair, films, verdicts) {
  const root = sideCalled(
    sideName(n, sides),
    make("div", { className: "rr-name", title: side.name }, side.name),
    pictureOfSide(side, n, sides, films),
  );
  if (side.goes) root.append(make("div", { className: "rr-goes" }, GOES));
  if (pair) root.append(dropOne(n, verdicts));
  root.append(factsInLine(side.facts), make("div", { className: "rr-report" }));
  return root;
}

const GOES = "“Drop” takes this one out";

function sideName(n, sides) {
  return sides.length > 1 ? ["First", "Second"][n] : "Evidence";
}

function pictureOfSide({ picture, problem, name }, n, sides, films) {
  if (problem) return make("div", { className: "rx-error", role: "note" }, problem);
  return films.of(picture, `${sideName(n, sides)} film: ${name}`, "rr-film");
}

function dropOne(n, verdicts) {
  const which = ["first", "second"][n];
  return button(`Drop the ${which}`, `Drop the ${which} film (${n + 1})`, () =>
    verdicts.judge(`drop ${which}`),
  );
}

function textOfSide(text, n, sides) {
  if (!text.length) return [];
  const { column, read } = sides[n];
  const words = make("p", {
    className: "rr-text",
    tabIndex: 0, // it scrolls
    role: "region",
    ariaLabel: `${sideName(n, sides)} ${column}`,
  });
  words.append(
    ...text.map(([part, what]) =>
      what ? make("mark", { title: what }, part, make("small", {}, what)) : part,
    ),
  );
  return [make("details", { open: read }, make("summary", {}, column), words)];
}
