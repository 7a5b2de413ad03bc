// The sheet of two answers: one item at a time; what is chosen stays in this browser until it is saved to a file.

import { json } from "./data.js";
import { folded, h, link, replace } from "./dom.js";
import { block } from "./text.js";

const content = document.getElementById("content");
const WHOLE = 4000000; // characters of a document that are shown at once, so that the browser finds words in all of it
const NAMED = 8; // items that are not done
const FILE = "verdicts.csv";
const CHOICES = [["1", "1"], ["tie", "Tie"], ["2", "2"]];
const MEANINGS = {
  helpfulness: "Does it give what the question asks for, to the point and in useful detail?",
  logicality: "Do its parts agree with each other, and do its conclusions follow?",
  faithfulness: "Does the document say what the answer says? Nothing invented, nothing wrong.",
  completeness: "Does it have all that the document says about the question?",
  overall: "All in all, which answer would you rather get?",
};

let sheet = null;
const memory = new Map(); // where the browser keeps nothing
let keeps = true; // whether it does
let unsaved = false;

const name = (item, asked) => `${sheet.name}/${item}/${asked}`;

// Each choice is kept by itself: another window with the same sheet loses nothing.
function chosen(item, asked) {
  let found = memory.get(name(item, asked));
  try {
    found ??= localStorage.getItem(name(item, asked));
  } catch {
    keeps = false;
  }
  return CHOICES.some(([value]) => value === found) ? found : "";
}

function choose(item, asked, value) {
  unsaved = true;
  try {
    localStorage.setItem(name(item, asked), value);
  } catch {
    keeps = false;
    memory.set(name(item, asked), value);
  }
  progress();
}

const every = () => sheet.items.map((_, place) => place + 1);
const answered = (item) => sheet.asked.filter((asked) => chosen(item, asked)).length;
const state = (item) => (answered(item) === sheet.asked.length ? "done" : answered(item) ? "begun" : "open");

/** The table that is saved: a row for each item, empty where nothing was chosen. */
function asTable() {
  const rows = every().map((item) => [sheet.name, item, ...sheet.asked.map((asked) => chosen(item, asked))]);
  return [["sheet", "item", ...sheet.asked], ...rows].map((row) => `${row.join(",")}\n`).join("");
}

function save() {
  const address = URL.createObjectURL(new Blob([asTable()], { type: "text/csv" }));
  h("a", { href: address, download: FILE }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  unsaved = false;
  const left = every().filter((item) => state(item) !== "done");
  told.textContent = left.length ? `Saved ${FILE}. Not done: ${left.slice(0, NAMED).join(", ")}${left.length > NAMED ? ", …" : ""}` : `Saved ${FILE} with all items.`;
}

function clear() {
  if (!confirm("Clear all your choices in this sheet? This cannot be undone.")) return;
  for (const item of every()) {
    for (const asked of sheet.asked) {
      memory.delete(name(item, asked));
      try {
        localStorage.removeItem(name(item, asked));
      } catch {
        keeps = false;
      }
    }
  }
  unsaved = false;
  show();
}

const counted = h("span", { id: "counted" });
const bar = h("progress", { "aria-labelledby": "counted" });
const told = h("span", { class: "told quiet", role: "status" });

function progress() {
  const states = every().map(state);
  const done = states.filter((each) => each === "done").length;
  Object.assign(bar, { max: sheet.items.length, value: done });
  counted.textContent = `${done} of ${sheet.items.length} done`;
  told.textContent = keeps ? (done === sheet.items.length ? "All done: save, and send the file." : "") : "This browser keeps nothing: save before you close the page.";
  for (const each of document.querySelectorAll("[data-item]")) {
    each.dataset.state = states[each.dataset.item - 1];
    each.querySelector(".unseen").textContent = ` ${each.dataset.state}`;
  }
}

function howTo(open) {
  return h(
    "details",
    { class: "how", open },
    h("summary", {}, "How to judge"),
    h("p", {}, "Read the question and both answers; look things up in the document. Then say which answer is better, in each of five ways. Choose a tie where you would not mind which one you get. A longer answer is not better for being longer."),
    h("dl", {}, sheet.asked.map((asked) => [h("dt", {}, titled(asked)), h("dd", {}, MEANINGS[asked])])),
    h("p", {}, `Your choices stay in this browser. Save writes them to ${FILE}, as often as you like; send that file when all items are done.`),
  );
}

const titled = (asked) => asked[0].toUpperCase() + asked.slice(1);

function question(item, asked) {
  const options = CHOICES.map(([value, words]) =>
    h("label", {},
      h("input", { type: "radio", name: asked, value, checked: chosen(item, asked) === value, on: { change: () => choose(item, asked, value) } }),
      h("span", {}, value === "tie" ? null : h("span", { class: "unseen" }, "Answer "), words)));
  return h("fieldset", { class: asked }, h("legend", { title: MEANINGS[asked] }, titled(asked)), h("div", { class: "choices" }, options));
}

function answer(text, number) {
  const said = text.trim() ? block(text) : h("p", { class: "quiet" }, "This answer is empty.");
  return h("section", { class: "candidate", "aria-labelledby": `answer-${number}` }, h("h2", { id: `answer-${number}` }, `Answer ${number}`), said);
}

function documentOf({ document: number, characters }) {
  if (number === null) return h("p", { class: "quiet" }, "There is no document with this question.");
  const read = async () => block(await json(`document${number}`), undefined, { class: "foreign text source", tabindex: "0", role: "region", "aria-label": "Document" }, WHOLE);
  return folded(`Document (${characters.toLocaleString("en")} characters)`, read);
}

function overview(current) {
  const items = every().map((item) => h("li", {}, link(item, [h("span", {}, `${item}`), h("span", { class: "unseen" })], { "data-item": item, ...(item === current ? { "aria-current": "page" } : {}) })));
  return h("details", { class: "all" }, h("summary", {}, "All items"), h("ol", {}, items), h("p", {}, h("button", { type: "button", on: { click: clear } }, "Clear all choices")));
}

function steps(item) {
  const next = item < sheet.items.length ? link(item + 1, "Next item →", { class: "button" }) : null;
  return h("nav", { class: "steps", "aria-label": "Items" }, next, item > 1 ? link(item - 1, "← Previous item") : null);
}

function show() {
  const asked = Number(location.hash.slice(1));
  const item = Number.isInteger(asked) && asked >= 1 && asked <= sheet.items.length ? asked : 1;
  const { query, answers } = sheet.items[item - 1];
  replace(
    content,
    h("h1", {}, `Item ${item} of ${sheet.items.length}`),
    howTo(every().every((each) => state(each) === "open")),
    h("section", { "aria-labelledby": "question" }, h("h2", { id: "question" }, "Question"), query ? block(query, undefined, { class: "foreign text asked" }) : h("p", { class: "quiet" }, "There is no question: see the document.")),
    documentOf(sheet.items[item - 1]),
    h("div", { class: "pair" }, answers.map((text, place) => answer(text, place + 1))),
    h("section", { class: "asking", "aria-label": "Which answer is better?" }, sheet.asked.map((each) => question(item, each)), steps(item)),
    overview(item),
  );
  progress();
  document.title = `Item ${item} · Compare two answers`;
}

async function start() {
  sheet = await json("sheet");
  replace(document.getElementById("nav"));
  document.getElementById("nav").remove();
  document.getElementById("header").append(h("span", { class: "progress" }, bar, counted), h("button", { type: "button", class: "save", on: { click: save } }, "Save"), told);
  addEventListener("hashchange", () => {
    if (location.hash === "#content") return;
    show();
    scrollTo(0, 0);
    content.focus({ preventScroll: true });
  });
  addEventListener("beforeunload", (event) => {
    if (!keeps && unsaved) event.preventDefault();
  });
  show();
  document.documentElement.dataset.shown = performance.now().toFixed(0);
}

start().catch((error) => {
  replace(content, h("h1", {}, "This sheet could not be opened"), h("p", { role: "alert" }, `${error?.message ?? error}. It needs a browser of 2023 or later, and the whole file.`));
});
