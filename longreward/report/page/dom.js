// Elements from plain data. Text becomes text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (on: {click: f}) and children: nodes, text, or null for nothing. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A link within the page. */
export function link(hash, content, attributes = {}) {
  return h("a", { href: `#${hash}`, ...attributes }, content);
}

export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

/** A closed section; `fill` makes its content when it is opened first. */
export function folded(title, fill, attributes = {}) {
  const made = h("details", attributes, h("summary", {}, title));
  made.addEventListener("toggle", async () => {
    if (made.open && made.children.length === 1) made.append(await fill());
  });
  return made;
}

/** A table with its caption; cells are nodes or text, the first of a row is its heading. */
export function table(caption, headings, rows, attributes = {}) {
  return h(
    "div",
    { class: "scrolls", tabindex: "0", role: "region", "aria-label": caption, ...attributes },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, headings.map((heading) => h("th", { scope: "col" }, heading)))),
      h("tbody", {}, rows.map(([first, ...rest]) =>
        h("tr", {}, h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell))))),
    ),
  );
}
