// One answer: what was asked, what was said, what the document says to it, what the judge made of it, and its siblings.

import { facts, noAnswer, questionOf, reward, where } from "./answers.js";
import { number } from "./chart.js";
import { folded, h, link, replace } from "./dom.js";
import { durationWords } from "./overview.js";
import { block, highlighted, line, nodes, placed, words } from "./text.js";

const AROUND = 160; // characters of the document that are shown before and after evidence
const LISTED = 2000; // characters of a statement in the list; beside its evidence it is shown in full
const SIBLINGS = 24; // that are shown at once
const SUPPORT = { 1: ["full", "✓", "supported"], 0.5: ["partly", "◐", "partly supported"], 0: ["none", "✗", "not supported"] };
const COVERAGE = { 1: ["full", "✓", "covered"], 0.5: ["partly", "◐", "partly covered"], 0: ["none", "✗", "missing"] };
const SOURCES = { judge: "asked the judge", cache: "from the cache", shared: "shared with another answer", document: "found in the document without a judge" };

/** A number, and how unsure the judge is of it where that is known. */
const unsure = (value, deviation) => value.toFixed(2) + (deviation === null ? "" : ` ± ${deviation.toFixed(2)}`);

/** Of the three kinds the nearest: a value can be any number from 0 to 1. */
function nearestKind(kinds, value, deviation, status) {
  const [kind, sign, told] = (value === null ? null : kinds[Math.floor(2 * value + 0.5) / 2]) ?? ["unknown", "?", `void: ${status}`];
  return [kind, sign, deviation === null ? told : `${told}, ${unsure(value, deviation)}`];
}

const support = (fact) => nearestKind(SUPPORT, fact.support, fact.deviation, fact.call.status);

/** The page of an answer; `fact` is the number of the statement whose evidence is shown. */
export async function answerPage(answers, row, neighbours) {
  const detail = await answers.detail(row);
  const all = detail.dimensions.flatMap((dimension) => dimension.facts);
  const evidence = h("section", { class: "evidence", id: "evidence", "aria-label": "Evidence", tabindex: "-1" });
  const showFact = (number) => {
    for (const mark of document.querySelectorAll("[data-fact]")) {
      if (Number(mark.dataset.fact) === number) mark.setAttribute("aria-current", "true");
      else mark.removeAttribute("aria-current");
    }
    replace(evidence, evidencePanel(detail, all, number));
  };
  const elements = [
    neighbourLinks(neighbours, row),
    h("h1", {}, "Answer to ", questionOf(answers, row)),
    h("div", { class: "meta lead" }, facts(answers, row), where(answers, row), h("span", { class: "tag" }, "prompt ", line(answers.id(row), 60)), usageTags(answers, row)),
    scores(answers, row, detail),
    h("div", { class: "reading" }, h("div", {}, reading(answers, row, detail, all)), evidence),
    verdicts(answers, detail),
    await siblingSection(answers, row),
  ];
  return { elements, showFact, facts: all.length };
}

function neighbourLinks(neighbours, row) {
  const { rows, hash } = neighbours;
  const place = rows.indexOf(row);
  const to = (target, words) => (target === undefined ? null : link(`answer/${target}`, words));
  return h(
    "nav",
    { class: "pages", "aria-label": "Answers found" },
    link(hash, "↑ All answers found"),
    place < 0 ? null : [to(rows[place - 1], "← Previous"), h("span", {}, `${(place + 1).toLocaleString("en")} of ${rows.length.toLocaleString("en")}`), to(rows[place + 1], "Next →")],
  );
}

function usageTags(answers, row) {
  const calls = answers.get("calls", row);
  const cost = answers.get("cost", row);
  const tag = (text) => h("span", { class: "tag" }, text);
  return [
    tag(`${calls} judge ${calls === 1 ? "call" : "calls"}, ${answers.get("free", row)} free`),
    tag(`scored in ${durationWords(answers.get("seconds", row))}`),
    answers.get("judge_tokens", row) ? tag(`${answers.get("judge_tokens", row).toLocaleString("en")} judge tokens`) : null,
    cost ? tag(`cost ${number(cost)}`) : null,
    answers.get("shrunk", row) ? tag("judged on shortened material, which fits the judge's context") : null,
  ];
}

function scores(answers, row, detail) {
  const cells = detail.dimensions.map((dimension) => {
    const value = dimension.score === null ? line(`void: ${dimension.status}`, 60) : unsure(dimension.score, dimension.deviation);
    const bar = h("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--part", Math.min(1, Math.max(0, (dimension.score ?? 0) / 10)));
    return h("div", {}, h("dt", {}, nodes(dimension.name)), h("dd", {}, h("b", {}, value), dimension.score === null ? null : bar));
  });
  return h("dl", { class: "scores" }, h("div", { class: "whole" }, h("dt", {}, "Reward"), h("dd", {}, reward(answers, row))), cells);
}

function reading(answers, row, detail, all) {
  const query = answers.query(row);
  const places = placed(detail.answer, all.map((fact) => fact.text));
  const marked = (from, to) => {
    const found = [];
    let done = from;
    for (const [begin, end, number] of places) {
      if (begin < done || begin >= to) continue;
      found.push(...nodes(detail.answer.slice(done, begin)), factLink(row, all[number], number, detail.answer.slice(begin, Math.min(end, to))));
      done = end;
    }
    return [...found, ...nodes(detail.answer.slice(done, Math.max(done, to)))];
  };
  const items = all.map((fact, number) => h("li", {}, factLink(row, fact, number, listed(fact.text), support(fact)[2])));
  return [
    query ? [h("h2", {}, "Question"), block(query)] : null,
    h("h2", {}, "Answer"),
    detail.answer ? block(detail.answer, marked) : h("p", { class: "notice" }, noAnswer(answers, row)),
    keyPoints(detail),
    all.length ? [h("h2", {}, `Its ${all.length} ${all.length === 1 ? "statement" : "statements"}`), h("ol", { class: "statements" }, items)] : h("p", { class: "quiet" }, "The judge was not given any statement of this answer to verify."),
  ];
}

/** What a complete answer says, and what this one says of it. */
function keyPoints(detail) {
  return detail.dimensions.filter((dimension) => dimension.points.length).map(({ name, status, points }) => {
    const items = points.map((point) => {
      const [kind, sign, told] = nearestKind(COVERAGE, point.covered, point.deviation, status);
      const quote = point.quote ? h("span", { class: "quoted" }, h("q", {}, h("bdi", {}, nodes(listed(point.quote)))), point.inAnswer ? null : " – not in the answer") : null;
      return h("li", { class: kind }, h("span", { class: "sign", "aria-hidden": "true" }, `${sign} `), h("bdi", {}, nodes(listed(point.text))), h("span", { class: "verdict" }, " ", line(told, 60)), quote);
    });
    return [h("h2", {}, "Key points for ", nodes(name), `: ${points.filter((point) => point.covered >= 0.75).length} of ${points.length} covered`), h("ol", { class: "statements points" }, items)];
  });
}

const listed = (text) => (text.length > LISTED ? `${text.slice(0, LISTED)} …` : text);

function factLink(row, fact, number, text, words = null) {
  const [kind, sign, told] = support(fact);
  return link(
    `answer/${row}/${number}`,
    [h("span", { class: "sign", "aria-hidden": words ? "true" : null, role: words ? null : "img", "aria-label": words ? null : `${told}:` }, sign), " ", h("bdi", {}, nodes(text)), words ? h("span", { class: "verdict" }, " ", line(words, 60)) : null],
    { class: `fact ${kind}`, "data-fact": number, title: `Statement ${number + 1}: ${told}` },
  );
}

function evidencePanel(detail, all, number) {
  const fact = all[number];
  if (!fact) return [h("h2", {}, "Evidence"), h("p", { class: "quiet" }, all.length ? "Choose a statement to see what the judge was shown for it." : "No statement was verified for this answer.")];
  const [kind, sign, told] = support(fact);
  const wanted = words(fact.text);
  const chunks = fact.chunks.map((index) => detail.chunks[index]).filter(Boolean);
  return [
    h("h2", {}, `Statement ${number + 1}: `, h("span", { class: `told ${kind}` }, h("span", { "aria-hidden": "true" }, `${sign} `), line(told, 60))),
    block(fact.text, (from, to) => highlighted(fact.text.slice(from, to), wanted), { class: "foreign text quote" }),
    callText(fact.call),
    h("h3", {}, chunks.length ? `The ${chunks.length} passages that the judge was shown` : "No passage was stored for it"),
    chunks.length ? h("p", { class: "quiet" }, "Words of the statement are marked.") : null,
    chunks.length ? passages(detail.document, chunks, wanted) : null,
  ];
}

/** The document with the passages in it; what lies between them opens on demand. */
function passages(text, chunks, wanted) {
  const inside = chunks.filter((chunk) => chunk.text === undefined).sort((a, b) => a.from - b.from);
  const made = h("div", { class: "document" });
  let done = 0;
  const between = (to) => {
    if (to - done > 3 * AROUND) {
      const [from, until] = [done ? wordEnd(text, done + AROUND) : 0, wordEnd(text, to - AROUND)];
      if (done) made.append(h("span", { class: "around" }, nodes(text.slice(done, from))));
      const hidden = h("button", { type: "button", class: "gap", on: { click: () => hidden.replaceWith(h("span", { class: "around" }, nodes(text.slice(from, until)))) } }, `… ${(until - from).toLocaleString("en")} characters …`);
      made.append(hidden);
      if (to < text.length) made.append(h("span", { class: "around" }, nodes(text.slice(until, to))));
    } else if (to > done) made.append(h("span", { class: "around" }, nodes(text.slice(done, to))));
    done = to;
  };
  for (const chunk of inside) {
    between(Math.max(done, chunk.from));
    if (chunk.to <= done) continue;
    const place = `${Math.round((100 * chunk.from) / text.length)}% into the document`;
    made.append(h("div", { class: "passage", dir: "auto" }, h("span", { class: "place" }, place), h("span", { class: "foreign" }, highlighted(text.slice(done, chunk.to), wanted))));
    done = chunk.to;
  }
  if (inside.length) between(text.length);
  for (const chunk of chunks.filter((each) => each.text !== undefined)) {
    made.append(h("div", { class: "passage", dir: "auto" }, h("span", { class: "place" }, `characters ${chunk.from.toLocaleString("en")} to ${chunk.to.toLocaleString("en")}; the document is not available`), h("span", { class: "foreign" }, highlighted(chunk.text, wanted))));
  }
  return made;
}

/** The next place between two words, if there is one near. */
function wordEnd(text, place) {
  const found = text.slice(place, place + 20).search(/\s/);
  return found < 0 ? place : place + found;
}

function callText(call) {
  const parts = [
    call.kind && `question: ${call.kind}`,
    call.status === "ok" ? null : `failed: ${call.status}`,
    SOURCES[call.source] ?? call.source,
    call.seconds ? durationWords(call.seconds) : null,
    call.attempts > 1 ? `${call.attempts} attempts` : null,
    call.usage.prompt ? `${call.usage.prompt.toLocaleString("en")} + ${call.usage.completion.toLocaleString("en")} tokens${call.usage.cached ? `, ${call.usage.cached.toLocaleString("en")} cached` : ""}` : null,
    call.usage.cost ? `cost ${number(call.usage.cost)}` : null,
    call.shrunk ? "material shortened to fit the judge" : null,
  ].filter(Boolean);
  return h(
    "div",
    { class: call.status === "ok" ? "call" : "call failed" },
    h("p", { class: "quiet" }, nodes(parts.join(" · "))),
    call.detail ? block(call.detail) : null,
    call.text ? block(call.text) : h("p", { class: "quiet" }, call.source === "judge" && call.status === "ok" ? "The judge wrote nothing besides its verdict." : "No text of the judge is stored for it."),
  );
}

function verdicts(answers, detail) {
  const [supported, other] = answers.overview.limits;
  const cut = other === null ? "" : `, others to ${other}`;
  const each = detail.dimensions.map((dimension) => {
    const score = dimension.score === null ? `void: ${dimension.status}` : unsure(dimension.score, dimension.deviation);
    const count = dimension.calls.length + dimension.facts.length;
    const fill = () => [
      dimension.detail ? block(dimension.detail) : null,
      dimension.calls.map((call) => callText(call)),
      dimension.facts.map((fact, number) => h("div", { class: "verified" }, h("p", {}, h("b", {}, nodes(`Statement ${number + 1}, ${support(fact)[2]}: `)), line(fact.text, 200)), callText(fact.call))),
    ].flat().filter(Boolean);
    return folded([h("b", {}, nodes(dimension.name)), " ", line(score, 60), " ", h("span", { class: "quiet" }, `${count} ${count === 1 ? "call" : "calls"}`)], () => h("div", {}, fill()), { class: "dimension", open: false });
  });
  return h("section", {}, h("h2", {}, "What the judge said"), supported === null ? null : h("p", { class: "quiet" }, `To keep this page small, replies about supported statements are shortened to ${supported} characters${cut}. The store keeps them in full; longreward report --whole shows them in full.`), each);
}

async function siblingSection(answers, row) {
  const rows = answers.siblings(row);
  if (rows.length < 2) return null;
  return h("section", {}, h("h2", {}, `The ${rows.length} answers of its group, best to worst`), await sideBySide(answers, rows, row));
}

/** Answers to one prompt beside each other. */
export async function sideBySide(answers, rows, current = -1, label = "Answers side by side") {
  const card = async (row) => {
    const text = await answers.answer(row);
    const dimensions = answers.overview.dimensions.map((name) => {
      const score = answers.get(`score:${name}`, row);
      return Number.isNaN(score) ? null : h("div", {}, h("dt", {}, nodes(name)), h("dd", {}, score.toFixed(1)));
    });
    return h(
      "li",
      { class: row === current ? "card current" : "card" },
      link(`answer/${row}`, reward(answers, row), { "aria-current": row === current ? "true" : null, "aria-label": `Answer with ${Number.isNaN(answers.get("total", row)) ? "no reward" : `reward ${answers.get("total", row).toFixed(2)}`}${row === current ? ", this one" : ""}` }),
      h("dl", { class: "small" }, dimensions),
      h("div", { class: "meta" }, facts(answers, row), where(answers, row)),
      block(text, undefined, { class: "foreign text" }),
    );
  };
  const list = h("ol", { class: "cards" });
  const show = async (count) => {
    replace(list, await Promise.all(rows.slice(0, count).map(card)));
    if (count < rows.length) list.append(h("li", { class: "card" }, h("button", { type: "button", on: { click: () => show(rows.length) } }, `Show the other ${rows.length - count}`)));
  };
  // The one that is looked at is always among them.
  await show(Math.max(SIBLINGS, rows.indexOf(current) + 1));
  return h("div", { class: "frame", tabindex: "0", role: "region", "aria-label": label }, list);
}
