// The compare page: several runs in one picture, held-out scores side by side, and prompts on which they differ.

import { sideBySide } from "./answer.js";
import { capital } from "./answers.js";
import { Cursor, figure, isFlatZero, number, signed } from "./chart.js";
import { h, link, replace, table } from "./dom.js";
import { interval, scrubber } from "./overview.js";
import { block, line, nodes } from "./text.js";

const SHOWN = 50; // prompts
const MAIN = ["reward", "policy", "judge", "canaries"];

export function comparePage(overview, answers) {
  return [h("h1", {}, "Compare"), h("p", { class: "lead" }, "The others are compared with the first: ", line(overview.runs[0].name, 80), "."), scoresTable(overview), prompts(overview, answers), curves(overview)];
}

function scoresTable(overview) {
  const { runs, differences } = overview;
  const last = runs.map((run) => run.heldout?.columns.at(-1));
  if (last.some((column) => !column)) return h("section", {}, h("h2", {}, "Held-out scores"), h("p", {}, "Some of these have no held-out scores, so they cannot be compared."));
  const names = Object.keys(last[0].means);
  const headings = ["of 10"];
  runs.forEach((run, index) => {
    headings.push(line(`${run.name}, ${last[index].name}`, 60));
    if (run.heldout.change.total) headings.push("its own change");
    if (index) headings.push("minus the first");
  });
  const rows = names.map((name) => {
    const cells = [name === "total" ? h("b", {}, "reward") : nodes(name)];
    runs.forEach((run, index) => {
      cells.push(interval(last[index].means[name]));
      if (run.heldout.change.total) cells.push(interval(run.heldout.change[name], signed));
      if (index) cells.push(interval(differences[index - 1][name], signed));
    });
    return cells;
  });
  const shared = differences.map((each) => each.total?.[3] ?? 0);
  return h(
    "section",
    {},
    h("h2", {}, "Held-out scores"),
    table("Mean and 95% interval over held-out prompts", headings, rows),
    h("p", { class: "quiet" }, `Differences are taken over the prompts that both have: ${shared.join(", ")}. Where the interval contains 0, there may be no difference.`),
  );
}

function prompts(overview, answers) {
  const { columns } = answers;
  const parts = overview.parts.map((name, index) => ({ name, index, runs: new Set() }));
  for (let row = 0; row < answers.size; row += 1) parts[columns.part[row]].runs.add(columns.run[row]);
  const shared = parts.filter((part) => part.runs.size > 1);
  if (!shared.length) return h("section", {}, h("h2", {}, "Prompt by prompt"), h("p", {}, "The runs have no answers of the same kind."));
  const chosen = h("select", { id: "compared-part", on: { change: () => show() } }, shared.map((part) => h("option", { value: part.index }, part.name)));
  const start = shared.find((part) => part.name === "held-out after") ?? shared.at(-1);
  chosen.value = start.index;
  const holder = h("div", {});
  const show = () => replace(holder, differencesTable(overview, answers, Number(chosen.value)));
  show();
  return h("section", {}, h("h2", {}, "Prompt by prompt"), h("p", {}, h("label", { for: "compared-part" }, "Answers scored for "), chosen), holder);
}

function differencesTable(overview, answers, part) {
  const { columns } = answers;
  const sums = overview.runs.map(() => new Float64Array(overview.prompts));
  const counts = overview.runs.map(() => new Uint32Array(overview.prompts));
  for (let row = 0; row < answers.size; row += 1) {
    if (columns.part[row] !== part || Number.isNaN(columns.total[row])) continue;
    sums[columns.run[row]][columns.prompt[row]] += columns.total[row];
    counts[columns.run[row]][columns.prompt[row]] += 1;
  }
  const found = [];
  for (let prompt = 0; prompt < overview.prompts; prompt += 1) {
    const means = overview.runs.map((_, run) => (counts[run][prompt] ? sums[run][prompt] / counts[run][prompt] : null));
    const others = means.slice(1).filter((mean) => mean !== null);
    if (means[0] === null || !others.length) continue;
    found.push({ prompt, means, most: Math.max(...others.map((mean) => Math.abs(mean - means[0]))) });
  }
  if (!found.length) return h("p", {}, "No prompt has scored answers in both.");
  found.sort((a, b) => b.most - a.most || a.prompt - b.prompt);
  const headings = ["prompt", ...overview.runs.flatMap((run, index) => [line(run.name, 40), ...(index ? ["difference"] : [])])];
  const rows = found.slice(0, SHOWN).map(({ prompt, means }) => [
    link(`prompt/${prompt}/${part}`, answers.prompts.queries[prompt] ? line(answers.prompts.queries[prompt], 90) : line(answers.prompts.ids[prompt], 60)),
    ...means.flatMap((mean, index) => [number(mean, "0-10"), ...(index ? [mean === null ? "–" : signed(mean - means[0])] : [])]),
  ]);
  const shown = found.length > SHOWN ? `The ${SHOWN} of ${found.length.toLocaleString("en")} prompts that differ most` : `${found.length} prompts, those that differ most first`;
  return table(shown, headings, rows);
}

/** The same chart of all runs in one. */
export function overlaid(overview) {
  const found = new Map();
  overview.runs.forEach((run, index) => {
    for (const chart of run.curves.charts) {
      if (!MAIN.includes(chart.part) || isFlatZero(chart)) continue;
      const key = `${chart.id} ${chart.x}`; // runs with steps and runs without have axes that do not compare
      if (!found.has(key)) found.set(key, { ...chart, lines: [] });
      const { lines } = found.get(key);
      const several = chart.id === "latency";
      for (const each of chart.lines.slice(0, several ? 2 : 1)) {
        lines.push({ ...each, spread: null, name: several ? `${run.name}, ${each.name}` : run.name, colour: several ? lines.length : index });
      }
    }
  });
  return [...found.values()];
}

function curves(overview) {
  const charts = overlaid(overview);
  if (!charts.length) return null;
  const { x } = charts[0];
  const cursors = new Map(charts.map((chart) => [chart.x, new Cursor()]));
  return h(
    "section",
    {},
    h("h2", {}, "Curves"),
    h("p", { class: "quiet" }, "Where a curve has many points, the strong line is a moving average."),
    scrubber(charts.filter((chart) => chart.x === x), cursors.get(x), x),
    h("div", { class: "charts" }, charts.map((chart) => figure(chart, cursors.get(chart.x)))),
  );
}

/** All answers to a prompt that were scored for one thing, of each run the best first. */
export async function promptPage(overview, answers, prompt, part) {
  const rows = answers.of(prompt).filter((row) => Number.isNaN(part) || answers.get("part", row) === part);
  const query = answers.prompts.queries[prompt];
  const shown = overview.runs.map((run, index) => [run, rows.filter((row) => answers.get("run", row) === index).sort((a, b) => (answers.get("total", b) || 0) - (answers.get("total", a) || 0))]);
  const groups = await Promise.all(
    shown.filter(([, mine]) => mine.length).map(async ([run, mine]) => h("section", {}, h("h2", {}, nodes(run.name), h("span", { class: "quiet" }, `, ${mine.length} ${mine.length === 1 ? "answer" : "answers"}`)), await sideBySide(answers, mine, -1, `Answers of ${run.name}`))),
  );
  return [
    h("nav", { class: "pages", "aria-label": "Back" }, overview.runs.length > 1 ? link("compare", "↑ Compare") : null, link(`answers?prompt=${prompt}`, "Filter these answers")),
    h("h1", {}, "Prompt ", line(answers.prompts.ids[prompt], 60)),
    query ? block(query) : null,
    Number.isNaN(part) ? null : h("p", { class: "quiet" }, `Answers scored for: ${capital(overview.parts[part])}.`),
    groups.length ? groups : h("p", {}, "There are no answers to it."),
  ];
}
