// Which page is shown: what stands behind # in the address says so.

import { alarmsPage } from "./alarms.js";
import { answerPage } from "./answer.js";
import { AnswersPage, parameters, select } from "./answers.js";
import { comparePage, promptPage } from "./compare.js";
import { Answers, json } from "./data.js";
import { h, link, replace } from "./dom.js";
import { overviewPage } from "./overview.js";
import { reproductionPage } from "./reproduction.js";

const content = document.getElementById("content");
let overview = null;
let loading = null;
let finder = null;
let found = "answers"; // the last filter
let open = null; // the answer that is shown, and how to show its statements

const loaded = () => (loading ??= Answers.load(overview));

const PAGES = {
  run: async (index) => ["Run", overviewPage(overview, Number(index) || 0)],
  answers: async () => {
    const answers = await loaded();
    finder ??= new AnswersPage(answers, (hash) => {
      history.replaceState(null, "", `#${hash}`);
      found = hash;
      finder.show(parameters(hash));
    });
    found = location.hash.slice(1);
    finder.show(parameters(location.hash));
    (window.requestIdleCallback ?? setTimeout)(() => finder.prepare());
    return ["Answers", finder.elements()];
  },
  answer: async (row, fact) => {
    const answers = await loaded();
    if (!(Number(row) < answers.size)) return ["Answer", [h("h1", {}, "There is no such answer"), h("p", {}, link("answers", "All answers"))]];
    const rows = finder?.rows?.length ? finder.rows : select(answers, new URLSearchParams());
    const page = await answerPage(answers, Number(row), { rows, hash: found });
    open = { row, showFact: page.showFact };
    const start = fact === undefined ? NaN : Number(fact);
    return ["Answer", page.elements, () => page.showFact(start)];
  },
  prompt: async (number, part) => ["Prompt", await promptPage(overview, await loaded(), Number(number), part === undefined ? NaN : Number(part))],
  alarms: async () => ["Alarms", alarmsPage(overview, await loaded())],
  compare: async () => ["Compare", comparePage(overview, await loaded())],
  reproduction: async () => ["Reproduction", reproductionPage(overview.reproduction)],
};
const firstPage = () => (overview.reproduction ? "reproduction" : "run");

async function route() {
  const [name, ...rest] = location.hash.slice(1).split("?")[0].split("/");
  if (name === "content") return;
  if (name === "answer" && open?.row === rest[0] && rest[1] !== undefined && document.getElementById("evidence")) {
    open.showFact(Number(rest[1]));
    const evidence = document.getElementById("evidence");
    evidence.focus({ preventScroll: true });
    evidence.scrollIntoView({ block: "nearest" });
    return;
  }
  open = null;
  const page = PAGES[name] ?? PAGES[firstPage()];
  try {
    const at = location.hash;
    const [title, elements, done] = await page(...rest);
    if (location.hash !== at) return; // another page was asked for in the meantime
    replace(content, elements);
    done?.();
    document.title = `${title} · LongReward report`;
    scrollTo(0, 0);
    if (route.moved) content.focus({ preventScroll: true });
    route.moved = true;
  } catch (error) {
    replace(content, h("h1", {}, "This page could not be shown"), h("p", { role: "alert" }, String(error?.message ?? error)));
    throw error;
  } finally {
    navigation(PAGES[name] ? name : firstPage());
  }
}

function navigation(current) {
  const count = overview.runs.flatMap((run) => run.alarms).filter((alarm) => alarm.level === "alarm").length;
  const entries = [...(overview.reproduction ? [["reproduction", "Reproduction"]] : []), ["run/0", "Run"], ...(overview.rows ? [["answers", "Answers"]] : []), ["alarms", count ? `Alarms (${count})` : "Alarms"], ...(overview.runs.length > 1 ? [["compare", "Compare"]] : [])];
  const isHere = (hash) => hash.split("/")[0] === ({ answer: "answers", prompt: "compare" }[current] ?? current);
  replace(document.getElementById("nav"), entries.map(([hash, words]) => link(hash === "answers" ? found : hash, words, isHere(hash) ? { "aria-current": "page" } : {})));
}

async function start() {
  overview = await json("overview");
  addEventListener("hashchange", route);
  await route();
  document.documentElement.dataset.shown = performance.now().toFixed(0);
}

start().catch((error) => {
  replace(content, h("h1", {}, "This report could not be opened"), h("p", { role: "alert" }, `${error?.message ?? error}. It needs a browser of 2023 or later, and the whole file.`));
});
