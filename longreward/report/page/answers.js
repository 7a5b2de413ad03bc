// The answers page: find answers by what they got, when, and what they say.

import { number } from "./chart.js";
import { h, link } from "./dom.js";
import { line } from "./text.js";

const PAGE = 40; // answers that are listed at once
const SNIPPET = 220; // characters

export const FLAGS = {
  attack: "addresses the judge",
  hidden: "invisible characters",
  copied: "copied document",
  repeated: "repeated text",
  empty: "empty, but rewarded",
  "no spread": "whole group got the same reward",
};

const SORTS = [
  ["total", "Reward, lowest first"],
  ["-total", "Reward, highest first"],
  ["prompt", "Prompt, then reward"],
  ["step", "Step, first ones first"],
  ["-step", "Step, last ones first"],
  ["-tokens", "Longest first"],
  ["tokens", "Shortest first"],
  ["-statements", "Most statements first"],
  ["-unsupported", "Most unsupported statements first"],
  ["-seconds", "Slowest to score first"],
];

/** The state of the filter, which is what stands behind # in the address. */
export function parameters(hash) {
  return new URLSearchParams(hash.split("?")[1] ?? "");
}

const RANGE = /^\s*([\d.]*)\s*(?:(-|–|to)\s*([\d.]*))?\s*$/;

/** "3-7", "3-", "-7", "3": [from, to]; null for anything else. */
export function range(text) {
  const found = RANGE.exec(text ?? "");
  if (!found || (!found[1] && !found[3])) return null;
  const from = found[1] ? Number(found[1]) : -Infinity;
  const to = found[2] ? (found[3] ? Number(found[3]) : Infinity) : from;
  return Number.isNaN(from) || Number.isNaN(to) ? null : [from, to];
}

/** Rows that a filter lets through, sorted. */
export function select(answers, wanted) {
  const { overview, columns, size } = answers;
  const tests = [];
  const within = (name, text, scale = 1) => {
    const found = range(text);
    const column = columns[name];
    if (found && column) tests.push((row) => column[row] * scale >= found[0] - 5e-7 && column[row] * scale <= found[1] + 5e-7);
  };
  const equal = (name, value) => value >= 0 && tests.push((row) => columns[name][row] === value);
  within("total", wanted.get("reward"));
  for (const name of overview.dimensions) within(`score:${name}`, wanted.get(name));
  within("step", wanted.get("step"));
  if (wanted.get("run")) equal("run", Number(wanted.get("run")));
  if (wanted.get("prompt")) equal("prompt", Number(wanted.get("prompt")));
  if (wanted.get("part")) equal("part", overview.parts.indexOf(wanted.get("part")));
  const status = wanted.get("status");
  if (status === "void") tests.push((row) => Number.isNaN(columns.total[row]));
  else if (status === "scored") tests.push((row) => !Number.isNaN(columns.total[row]));
  else if (status) equal("status", overview.statuses.indexOf(status));
  const flag = wanted.get("flag");
  if (flag === "any") tests.push((row) => (columns.flags[row] & 31) > 0);
  else if (flag) tests.push((row) => (columns.flags[row] >> overview.flags.indexOf(flag)) & 1);
  if (wanted.get("facts") === "unsupported") tests.push((row) => columns.unsupported[row] > 0);
  if (wanted.get("facts") === "partly") tests.push((row) => columns.partly[row] > 0);
  const text = wanted.get("text")?.trim();
  if (text) {
    const found = answers.search(text);
    tests.push((row) => found[row] === 1);
  }
  return [...ordered(answers, wanted.get("sort") ?? "total")].filter((row) => tests.every((test) => test(row)));
}

const orders = new Map(); // by what is sorted by: sorting takes longer than everything else

function ordered(answers, key) {
  const { columns, size } = answers;
  if (!orders.has(key)) {
    const name = key.replace(/^-/, "");
    const rows = Uint32Array.from({ length: size }, (_, row) => row);
    const column = columns[name];
    if (column && name !== "prompt") {
      const worst = key.startsWith("-") ? -Infinity : Infinity; // what is not known comes last
      const values = Float64Array.from(column, (value) => (Number.isNaN(value) || (name === "tokens" && value < 0) ? worst : value));
      if (key.startsWith("-")) rows.sort((a, b) => (values[b] === values[a] ? a - b : values[b] - values[a]));
      else rows.sort((a, b) => (values[a] === values[b] ? a - b : values[a] - values[b]));
    }
    orders.set(key, rows);
  }
  return orders.get(key);
}

/** The page; `go` changes what stands behind #, without a new page in the browser's history. */
export class AnswersPage {
  constructor(answers, go) {
    this.answers = answers;
    this.go = go;
    this.status = h("p", { class: "count", role: "status" });
    this.list = h("ol", { class: "answers" });
    this.pages = h("nav", { class: "pages", "aria-label": "Pages of answers" });
    this.form = this.makeForm();
    this.rows = [];
  }

  elements() {
    const filter = h("details", { class: "filter", open: matchMedia("(min-width: 60rem)").matches }, h("summary", {}, "Filter"), this.form);
    return [h("h1", {}, "Answers"), h("div", { class: "finder" }, filter, h("section", { "aria-label": "Answers found" }, this.status, this.list, this.pages))];
  }

  /** Show what the address asks for. */
  show(wanted) {
    this.wanted = wanted;
    for (const field of this.form.elements) if (field.name && document.activeElement !== field) field.value = wanted.get(field.name) ?? "";
    if (!this.form.elements.sort.value) this.form.elements.sort.value = "total";
    const text = wanted.get("text")?.trim();
    if (text && !this.answers.searchable) {
      this.prepare();
      this.status.replaceChildren("Preparing the texts for search.");
      return;
    }
    const began = performance.now();
    this.rows = select(this.answers, wanted);
    this.render();
    document.documentElement.dataset.filterMs = (performance.now() - began).toFixed(1);
  }

  /** In the background: the first search need not wait. */
  prepare() {
    this.preparing ??= this.answers
      .prepareSearch((done, count) => {
        if (this.wanted?.get("text")) this.status.replaceChildren(`Preparing the texts for search: ${Math.round((100 * done) / count)}%.`);
      })
      .then(() => {
        document.documentElement.dataset.searchable = performance.now().toFixed(0);
        if (this.wanted?.get("text")) this.show(this.wanted);
      });
    return this.preparing;
  }

  render() {
    const { rows } = this;
    const page = Math.min(Math.max(1, Number(this.wanted.get("page")) || 1), Math.max(1, Math.ceil(rows.length / PAGE)));
    const shown = rows.slice((page - 1) * PAGE, page * PAGE);
    const all = this.answers.size.toLocaleString("en");
    this.status.replaceChildren(rows.length ? `${rows.length.toLocaleString("en")} of ${all} answers` : `None of ${all} answers. Widen the filter.`);
    this.waiting = [];
    this.list.replaceChildren(...shown.map((row) => this.item(row)));
    this.list.setAttribute("start", (page - 1) * PAGE + 1);
    this.paging(page, Math.ceil(rows.length / PAGE));
    // Figures first: texts are unpacked when they have been painted.
    requestAnimationFrame(() => setTimeout(() => this.fill(this.waiting)));
  }

  async fill(waiting) {
    for (const [row, snippet] of waiting) {
      if (this.waiting !== waiting) return; // another filter by now
      const text = await this.answers.answer(row);
      snippet.replaceChildren(text.trim() ? line(text, SNIPPET) : h("span", { class: "quiet" }, noAnswer(this.answers, row, text)));
    }
  }

  item(row) {
    const { answers } = this;
    const snippet = h("span", { class: "snippet" });
    this.waiting.push([row, snippet]);
    return h(
      "li",
      {},
      link(`answer/${row}`, [reward(answers, row), h("span", { class: "texts" }, h("span", { class: "question" }, questionOf(answers, row)), snippet)], { class: "open" }),
      h("div", { class: "meta" }, dimensionTags(answers, row), facts(answers, row), where(answers, row)),
    );
  }

  paging(page, count) {
    const to = (target, words) => {
      const wanted = new URLSearchParams(this.wanted);
      wanted.set("page", target);
      return link(`answers?${wanted}`, words);
    };
    this.pages.replaceChildren(
      ...[page > 1 ? to(page - 1, "← Previous") : null, count > 1 ? h("span", {}, `Page ${page.toLocaleString("en")} of ${count.toLocaleString("en")}`) : null, page < count ? to(page + 1, "Next →") : null].filter(Boolean),
    );
  }

  makeForm() {
    const { overview } = this.answers;
    const field = (name, label, control) => h("div", {}, h("label", { for: `by-${name}` }, label), control);
    const input = (name, label, hint) =>
      field(name, line(label, 40), h("input", { id: `by-${name}`, name, placeholder: hint, autocomplete: "off", spellcheck: "false" }));
    const choice = (name, label, options) =>
      field(name, label, h("select", { id: `by-${name}`, name }, options.map(([value, words]) => h("option", { value }, words))));
    const present = (column, names) => {
      const found = new Set(this.answers.columns[column]);
      return names.map((name, index) => [name, index]).filter(([, index]) => found.has(index));
    };
    const parts = present("part", overview.parts);
    const statuses = present("status", overview.statuses).filter(([name]) => name !== "ok");
    const flags = overview.flags.filter((_, bit) => this.answers.columns.flags.some((each) => (each >> bit) & 1));
    const steps = this.answers.columns.step.some((step) => step > 0);
    const form = h(
      "form",
      { role: "search", on: { submit: (event) => event.preventDefault() } },
      input("text", "Text of answer or question", "exact words"),
      choice("sort", "Sorted by", [...SORTS, ...overview.dimensions.map((name) => [`score:${name}`, `${capital(name)}, lowest first`])]),
      overview.runs.length > 1 ? choice("run", "Run", [["", "all"], ...overview.runs.map((run, index) => [index, run.name])]) : null,
      parts.length > 1 ? choice("part", "Scored for", [["", "anything"], ...parts.map(([name]) => [name, name])]) : null,
      choice("status", "Status", [["", "any"], ["scored", "has a reward"], ...(statuses.length ? [["void", "void"], ...statuses.map(([name]) => [name, `void: ${name}`])] : [])]),
      choice("facts", "Statements", [["", "any"], ["unsupported", "at least one not supported"], ["partly", "at least one partly supported"]]),
      flags.length ? choice("flag", "Sign", [["", "any or none"], ["any", "anything suspicious"], ...flags.map((name) => [name, FLAGS[name] ?? name])]) : null,
      h("fieldset", {}, h("legend", {}, "Ranges, such as 3-7, 8- or -2"),
        input("reward", "Reward", "0-10"),
        overview.dimensions.map((name) => input(name, capital(name), "0-10")),
        steps ? input("step", "Step", "from-to") : null),
      h("button", { type: "reset", on: { click: () => setTimeout(() => this.go("answers")) } }, "Clear the filter"),
    );
    let timer = null;
    form.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.apply(), 30);
    });
    return form;
  }

  apply() {
    const wanted = new URLSearchParams();
    for (const [name, value] of new FormData(this.form)) if (value && !(name === "sort" && value === "total")) wanted.set(name, value);
    if (this.wanted?.get("prompt")) wanted.set("prompt", this.wanted.get("prompt"));
    this.go(`answers?${wanted}`);
  }
}

export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);

export function questionOf(answers, row) {
  const query = answers.query(row);
  return query ? line(query, 160) : h("span", { class: "quiet" }, "prompt ", line(answers.id(row), 60));
}

/** Why there is nothing to read: scored files do not hold the answers. */
export function noAnswer(answers, row, text = "") {
  if (text) return "only white space";
  return answers.overview.parts[answers.get("part", row)] === "scored" ? "the answer itself is not in this file: give the scored rows with --input IN.jsonl" : "an empty answer";
}

/** The reward as a number with a bar, or the word void. */
export function reward(answers, row) {
  const total = answers.get("total", row);
  if (Number.isNaN(total)) return h("span", { class: "reward void" }, h("b", {}, "void"), h("span", { class: "quiet foreign" }, line(answers.status(row), 60)));
  const bar = h("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--part", Math.min(1, Math.max(0, total / 10)));
  return h("span", { class: "reward" }, h("b", {}, total.toFixed(2)), bar);
}

function dimensionTags(answers, row) {
  const found = answers.overview.dimensions.map((name) => [name, answers.get(`score:${name}`, row)]);
  return found.filter(([, score]) => !Number.isNaN(score)).map(([name, score]) => h("span", { class: "tag foreign" }, line(name, 40), " ", h("b", {}, score.toFixed(1))));
}

/** How many statements are supported, partly, not; in signs and words. */
export function facts(answers, row) {
  const counts = [["supported", "✓", "supported"], ["partly", "◐", "partly"], ["unsupported", "✗", "not supported"]];
  const known = counts.map(([name, sign, words]) => [answers.get(name, row), sign, words]).filter(([count]) => count);
  return known.map(([count, sign, words]) => h("span", { class: "tag" }, h("span", { "aria-hidden": "true" }, `${sign} `), `${count} ${words}`));
}

export function where(answers, row) {
  const { overview } = answers;
  const tokens = answers.get("tokens", row);
  const step = answers.get("step", row);
  const flags = overview.flags.filter((_, bit) => (answers.get("flags", row) >> bit) & 1);
  return [
    overview.runs.length > 1 ? h("span", { class: "tag" }, line(overview.runs[answers.get("run", row)].name, 40)) : null,
    h("span", { class: "tag" }, step ? `step ${step}` : overview.parts[answers.get("part", row)]),
    tokens >= 0 ? h("span", { class: "tag" }, `${number(tokens)} tokens${answers.get("truncated", row) ? ", cut" : ""}`) : null,
    flags.map((name) => h("span", { class: "tag warn" }, h("span", { "aria-hidden": "true" }, "▲ "), FLAGS[name] ?? name)),
  ];
}
