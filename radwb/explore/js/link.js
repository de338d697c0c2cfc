// The line of Python that opens this view again.

function linkBox(model) {
  const code = make("textarea", {
    className: "rx-code",
    readOnly: true,
    rows: 2,
    ariaLabel: "Code that opens this view again",
    onfocus: () => code.select(),
  });
  const told = make("span", { role: "status" });
  const root = make(
    "div",
    { className: "rx-link", hidden: true },
    code,
    make(
      "div",
      {},
      told,
      button("Close", "Close the link", () => (root.hidden = true)),
    ),
  );

  async function heard(content) {
    if (!content.code) return;
    code.value = content.code;
    root.hidden = false;
    try {
      await navigator.clipboard.writeText(content.code);
      write(told, "Copied: run it in a cell to open this view again.");
    } catch {
      code.select(); // no clipboard without a secure page
      write(told, "Copy this line (Ctrl + C), and run it in a cell.");
    }
  }
  model.on("msg:custom", heard);
  return {
    root,
    ask: () => tellPython(model, { link: true }),
    leave: () => model.off("msg:custom", heard),
  };
}
