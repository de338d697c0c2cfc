// What is known of the film besides its pixels.

function factsOf(model) {
  const short = make("div", { className: "rx-facts-short" });
  const long = make("div", { className: "rx-facts-long" });
  const root = make(
    "section",
    { className: "rx-facts", ariaLabel: "About this film" },
    short,
    long,
  );
  const opened = new Set(); // stay open from film to film
  let known = null;

  function update() {
    const scan = model.get("scan");
    if (scan === known) return;
    known = scan;
    const facts = [...(scan.facts || [])];
    const told = facts.some(([name]) => name === "Absent"); // by the table
    if (scan.absent?.length && !told) facts.push(["Absent", scan.absent.join(", ")]);
    const isLong = ([name, text]) => /report/i.test(name) || text.length > 90;
    short.replaceChildren(...facts.filter((f) => !isLong(f)).map(fact));
    long.replaceChildren(...facts.filter(isLong).map((f) => folded(f, opened)));
    root.hidden = !facts.length;
  }
  return { root, update };
}

function fact([name, text]) {
  return make("span", {}, make("i", {}, name), text);
}

function folded([name, text], opened) {
  const box = make(
    "details",
    { open: opened.has(name) },
    make("summary", {}, name),
    make("p", {}, text),
  );
  // noted at the click: a toggle event comes later, maybe after the next film
  box.firstChild.onclick = () => (box.open ? opened.delete(name) : opened.add(name));
  return box;
}
