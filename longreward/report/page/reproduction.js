// The page of a reproduction: its table, beside the figures of the paper.

import { h, table } from "./dom.js";
import { nodes } from "./text.js";

export function reproductionPage({ title, heads, rows, notes }) {
  return [
    h("h1", {}, nodes(title)),
    table("Each row is a policy", heads.map((head) => nodes(head)), rows.map((cells) => cells.map(lines)), { class: "scrolls whole" }),
    notes.map((note) => h("p", { class: "quiet" }, nodes(note))),
  ];
}

/** A figure, and below it its interval and the paper's figure. */
function lines(cell) {
  const [figure, ...rest] = cell.split(/ (?=[([])/);
  return [nodes(figure), ...rest.map((part) => h("span", { class: "below quiet" }, nodes(` ${part}`)))];
}
