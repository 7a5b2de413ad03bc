// The page of a reproduction: its table, beside the figures of the paper.

import { h, table } from "./dom.js";
import { nodes } from "./text.js";

export function reproductionPage({ title, heads, rows, notes }) {
  return [
    h("h1", {}, nodes(title)),
    table("Each row is a policy", heads.map((head) => nodes(head)), rows.map((cells) => cells.map((cell) => nodes(cell)))),
    notes.map((note) => h("p", { class: "quiet" }, nodes(note))),
  ];
}
