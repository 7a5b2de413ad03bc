// The alarms page: what to look into, why, and where.

import { reward } from "./answers.js";
import { Cursor, figure } from "./chart.js";
import { h, link } from "./dom.js";
import { nodes } from "./text.js";

const LOOKED_FOR = [
  "the reward rises while length or the number of statements grows",
  "a dimension that is the same for all answers",
  "groups whose answers all got the same reward",
  "answers that address the judge, contain invisible characters, copy the document, repeat themselves, or say nothing and are rewarded",
  "a judge that drifts on its canaries",
  "void answers in a cluster, and prompts that are always void",
  "a held-out reward that fell",
];

export function alarmsPage(overview, answers) {
  const found = overview.runs.map((run, index) => {
    const several = overview.runs.length > 1 ? h("h2", {}, nodes(run.name)) : null;
    if (!run.alarms.length) return [several, h("p", {}, "Nothing was found.")];
    return [several, run.alarms.map((alarm) => card(alarm, run, answers, index, overview.runs.length))];
  });
  return [
    h("h1", {}, "Alarms"),
    h("p", { class: "lead" }, "Figures that are worth a look. An alarm does not prove that something is wrong, and no alarm does not prove that all is well."),
    found,
    h("h2", {}, "What is looked for"),
    h("ul", {}, LOOKED_FOR.map((words) => h("li", {}, words))),
  ];
}

function card(alarm, run, answers, index, runs) {
  const isAlarm = alarm.level === "alarm";
  const wanted = new URLSearchParams(runs > 1 ? { ...alarm.filter, run: index } : alarm.filter);
  const charts = run.curves.charts.filter((chart) => alarm.charts.includes(chart.id));
  const level = runs > 1 ? "h3" : "h2";
  return h(
    "article",
    { class: `alarm-card ${alarm.level}` },
    h(level, {}, h("span", { class: "tag warn" }, h("span", { "aria-hidden": "true" }, isAlarm ? "▲ " : "● "), isAlarm ? "Alarm" : "Note"), " ", nodes(alarm.title)),
    h("ul", { class: "figures-list" }, alarm.figures.map((words) => h("li", {}, nodes(words)))),
    h("p", {}, h("b", {}, "What it means. "), alarm.meaning),
    h("p", {}, h("b", {}, "What to do. "), alarm.action),
    alarm.examples.length
      ? h("p", {}, link(`answers?${wanted}`, "Show these answers"), " or one of them: ", h("span", { class: "examples" }, alarm.examples.map((row) => link(`answer/${row}`, reward(answers, row), { class: "example", "aria-label": `Example, ${Number.isNaN(answers.get("total", row)) ? "void" : `reward ${answers.get("total", row).toFixed(2)}`}` }))))
      : null,
    charts.length ? h("div", { class: "charts" }, charts.map((chart) => figure(chart, new Cursor(), runs > 1 ? "h4" : "h3"))) : null,
  );
}
