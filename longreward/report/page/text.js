// Text of others as it is: what would not show, or would change what stands around it, is shown by its code.

import { h } from "./dom.js";

const LONGEST = 20000; // characters of one text that are shown at first
const MORE = 250000; // and on demand, so that a browser stays quick whatever a text holds
// Control characters but for tab and line feed, what nobody sees, what changes direction, and halves of characters.
const UNSEEN = new RegExp(
  "\\r\\n|(?:(?!\\r\\n)[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u115f\\u1160\\u180e\\u200b\\u200e\\u200f" +
    "\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}\\ud800-\\udfff])+",
  "gu",
);
const EACH = 8; // of a row of such characters that are shown one by one
const MOST = 400; // elements that they take in one text
const NAMES = { 0x202e: "right-to-left override", 0x202d: "left-to-right override", 0x200b: "zero-width space", 0: "null" };

/** The text as nodes: text nodes, and elements with the codes of characters that cannot be seen. However many of these a
 * text has, the elements are few enough for a browser. */
export function nodes(text) {
  const found = [];
  let done = 0;
  let left = MOST;
  for (const match of text.matchAll(UNSEEN)) {
    if (match.index > done) found.push(text.slice(done, match.index));
    done = match.index;
    if (match[0] === "\r\n") found.push("\n");
    else if (left <= 0) break;
    else {
      const unseen = [...match[0]];
      const codes = unseen.slice(0, EACH).map((character) => code(character.codePointAt(0)));
      if (unseen.length > EACH) codes.push(note(`${(unseen.length - EACH).toLocaleString("en")} more`));
      found.push(...codes);
      left -= codes.length;
    }
    done += match[0].length;
  }
  if (left <= 0 && done < text.length) found.push(note("from here on what cannot be seen is shown as \ufffd"), text.slice(done).replace(UNSEEN, (unseen) => (unseen === "\r\n" ? "\n" : "\ufffd")));
  else if (done < text.length) found.push(text.slice(done));
  return found;
}

const note = (words) => h("span", { class: "code-point" }, words);

function code(point) {
  const name = `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
  return h("span", { class: "code-point", title: NAMES[point] ? `${name} ${NAMES[point]}` : name }, name);
}

/** One line of a text, for lists: white space is one space. */
export function line(text, limit) {
  const start = text.slice(0, limit * 2).replace(/\s+/g, " ").trim();
  const cut = start.length > limit ? `${start.slice(0, limit)} …` : start;
  return h("span", { class: "foreign", dir: "auto" }, nodes(cut));
}

/** A text with its line breaks, apart from what stands around it. `marked` draws a part of it, from and to. `first`: how
 * many characters are shown before more are asked for. */
export function block(text, marked = (from, to) => nodes(text.slice(from, to)), attributes = {}, first = LONGEST) {
  const holder = h("div", { class: "foreign text", dir: "auto", ...attributes });
  const show = (limit) => {
    holder.replaceChildren(...marked(0, Math.min(limit, text.length)).flat(Infinity));
    if (text.length > limit) {
      const [more, left] = [MORE, text.length - limit].map((count) => count.toLocaleString("en"));
      const rest = text.length - limit > MORE ? `Show ${more} more of the ${left} characters left` : `Show the ${left} characters left`;
      holder.append(" … ", h("button", { type: "button", on: { click: () => show(limit + MORE) } }, rest));
    }
  };
  show(first);
  return holder;
}

const STOP_WORDS = new Set(
  ("a about after all also an and any are as at be because been before between both but by can could did do does down " +
    "during each for from had has have he her his how if in into is it its just may more most no not of off on only or " +
    "other our out over own she should since so some such than that the their them then there these they this those " +
    "through to too under until up was we were what when where which while who will with would you your").split(" "),
);
const WORD = /[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]+|\d+(?:[.,]\d+)*|[\p{L}\p{N}]+/gu;
const NO_SPACES = /[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]/;

/** The words of a text that say something, in lower case; of scripts without spaces every two characters. */
export function words(text) {
  const found = new Set();
  for (const { word } of split(text)) if (!STOP_WORDS.has(word)) found.add(word);
  return found;
}

function* split(text) {
  for (const match of text.matchAll(WORD)) {
    if (!NO_SPACES.test(match[0])) yield { word: match[0].toLowerCase().replace(/(\d),(?=\d)/g, "$1"), from: match.index, to: match.index + match[0].length };
    else for (let i = 0; i < Math.max(1, match[0].length - 1); i += 1) yield { word: match[0].slice(i, i + 2), from: match.index + i, to: match.index + Math.min(i + 2, match[0].length) };
  }
}

/** A text as nodes in which these words are marked. */
export function highlighted(text, wanted) {
  const found = [];
  let done = 0;
  for (const { word, from, to } of split(text)) {
    if (!wanted.has(word) || to <= done) continue;
    if (from > done) found.push(...nodes(text.slice(done, from)));
    found.push(h("mark", {}, nodes(text.slice(Math.max(from, done), to))));
    done = to;
  }
  found.push(...nodes(text.slice(done)));
  return found;
}

/** Where in an answer each statement stands: [from, to, its number], without overlaps, in order. Word for word, else
 * the sentence that shares most words with it, if it has most of them. */
export function placed(answer, statements) {
  const taken = [];
  const inTheWay = (from, to) => taken.find(([a, b]) => to > a && from < b);
  const rest = [];
  const lower = answer.toLowerCase();
  statements.forEach((statement, number) => {
    const wanted = statement.trim().toLowerCase();
    let at = wanted ? lower.indexOf(wanted) : -1;
    for (let other; at >= 0 && (other = inTheWay(at, at + wanted.length)); ) at = lower.indexOf(wanted, other[1]);
    if (at >= 0) taken.push([at, at + wanted.length, number]);
    else rest.push(number);
  });
  const sentences = rest.length && answer.length <= 10 * LONGEST ? [...answer.matchAll(/[^.!?。！？\n]+[.!?。！？]*/g)].map(sentence) : [];
  for (const number of rest) {
    const wanted = words(statements[number]);
    let best = null;
    for (const { from, to, said } of sentences) {
      if (from === to || inTheWay(from, to)) continue;
      const share = said.filter((word) => wanted.has(word)).length / Math.max(1, wanted.size);
      if (share >= 0.6 && share > (best?.share ?? 0)) best = { share, from, to };
    }
    if (best) taken.push([best.from, best.to, number]);
  }
  return taken.sort((a, b) => a[0] - b[0]);
}

function sentence(match) {
  const text = match[0].trim();
  const from = match.index + match[0].indexOf(text);
  return { from, to: from + text.length, said: [...words(text)] };
}
