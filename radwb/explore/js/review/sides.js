// The evidence: a film or two beside each other, with what is known of them, and texts
// with the words that were found.

// Returns the addresses of the pictures, to be let go of.
function showSides(box, { sides = [], pair }, verdicts) {
  const addresses = [];
  const shown = sides.map((side, n) => {
    const one = make("section", {
      className: "rr-side",
      ariaLabel: sideName(n, sides),
    });
    one.append(make("div", { className: "rr-name", title: side.name }, side.name));
    one.append(pictureOfSide(side, n, sides, addresses));
    if (side.goes) one.append(make("div", { className: "rr-goes" }, GOES));
    if (pair) one.append(dropOne(n, verdicts));
    one.append(factsOfSide(side));
    if (side.text.length) one.append(textOfSide(side, n, sides));
    return one;
  });
  box.replaceChildren(...shown);
  box.classList.toggle("rr-two", sides.length > 1);
  return addresses;
}

const GOES = "“Drop” takes this one out";

function sideName(n, sides) {
  return sides.length > 1 ? ["First", "Second"][n] : "Evidence";
}

function pictureOfSide({ picture, problem, name }, n, sides, addresses) {
  if (problem) return make("div", { className: "rx-error", role: "note" }, problem);
  const address = URL.createObjectURL(new Blob([picture], { type: "image/jpeg" }));
  addresses.push(address);
  const alt = `${sideName(n, sides)} film: ${name}`;
  return make("img", { className: "rr-film", alt, src: address });
}

function dropOne(n, verdicts) {
  const which = ["first", "second"][n];
  return button(`Drop the ${which}`, `Drop the ${which} film (${n + 1})`, () =>
    verdicts.judge(`drop ${which}`),
  );
}

function factsOfSide({ facts }) {
  const box = make("div", { className: "rx-facts-short rr-facts" });
  box.append(
    ...facts.map(([name, text]) => make("span", {}, make("i", {}, name), text)),
  );
  return box;
}

function textOfSide({ column, text, read }, n, sides) {
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
  return make("details", { open: read }, make("summary", {}, column), words);
}
