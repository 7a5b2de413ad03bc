// The run page: what kind of run, how it goes, its curves, its held-out scores, its configuration.

import { Cursor, figure, isFlatZero, number, signed } from "./chart.js";
import { folded, h, link, table } from "./dom.js";
import { block, nodes } from "./text.js";

const PARTS = [
  ["reward", "Reward"],
  ["policy", "Policy"],
  ["judge", "Judge"],
  ["canaries", "Canaries"],
];

/** The page of a run; with several runs, the others are one click away. */
export function overviewPage(overview, index) {
  const run = overview.runs[index];
  return [
    h("h1", {}, nodes(run.name)),
    h("p", { class: "lead" }, state(run), ` ${kindWords(run)}`),
    overview.runs.length > 1 ? otherRuns(overview, index) : null,
    troubles(run),
    tiles(run),
    alarmWords(run),
    heldoutSection(run),
    curvesSection(run),
    run.config || run.command ? settings(run) : null,
  ];
}

function kindWords(run) {
  return run.is_run ? `Kind: ${run.kind}.` : "A file of scored answers, in the order of its lines.";
}

const STATES = { running: ["◌", "Running"], finished: ["✓", "Finished"], ended: ["✗", "Ended early"], file: ["▤", "Scored file"] };

function state(run) {
  const [sign, word] = STATES[run.state.state];
  const badge = h("span", { class: `state ${run.state.state}` }, h("span", { "aria-hidden": "true" }, `${sign} `), word);
  const when = `last written ${timeWords(run.state.at)}`;
  const more = {
    running: ` It seems to be running: no summary yet, ${when}. Make this report again to see more.`,
    ended: ` There is no summary.json, and it was ${when}: it was stopped or it crashed.`,
  };
  return [badge, more[run.state.state] ?? ` ${when[0].toUpperCase()}${when.slice(1)}.`];
}

export function timeWords(seconds) {
  return new Date(1000 * seconds).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

function otherRuns(overview, index) {
  const items = overview.runs.map((run, number) =>
    h("li", {}, link(`run/${number}`, nodes(run.name), number === index ? { "aria-current": "true" } : {})));
  return h("nav", { "aria-label": "Runs" }, h("ul", { class: "tabs" }, items));
}

function troubles(run) {
  const { lines, first } = run.broken;
  const found = [];
  if (!run.counts.answers) found.push(h("p", { class: "notice" }, "No answer has been scored yet, so there are no curves and no answers to look into."));
  if (run.state.log) {
    const log = block(run.state.log, undefined, { class: "foreign text code", tabindex: "0", role: "region", "aria-label": "The end of logs/train.log" });
    found.push(h("section", {}, h("h2", {}, "The last lines of its log"), log));
  }
  if (lines) {
    const words = `${lines.toLocaleString("en")} ${lines === 1 ? "line holds" : "lines hold"} no scored answer (half-written, or not JSON). They are skipped.`;
    found.push(folded(words, () => h("ul", {}, first.map((each) => h("li", { class: "foreign" }, nodes(each)))), { class: "notice" }));
  }
  return found;
}

function tiles(run) {
  const { counts } = run;
  if (!counts.answers) return null;
  const change = run.heldout?.change.total;
  const share = (part, whole) => (whole ? number(part / whole, "share") : "–");
  const cells = [
    change && ["Held-out change", signed(change[0]), change[1] === null ? "" : `95% interval ${signed(change[1])} to ${signed(change[2])}`],
    ["Mean reward", number(counts.mean, "0-10"), "of 10, all answers"],
    ["Answers", counts.answers.toLocaleString("en"), [`${counts.prompts.toLocaleString("en")} prompts`, counts.steps ? `, ${counts.steps} ${counts.steps === 1 ? "step" : "steps"}` : ""].join("")],
    ["Void", share(counts.void, counts.answers), counts.void ? Object.entries(counts.reasons).map(([name, n]) => `${name} ${n.toLocaleString("en")}`).join(", ") : "no judge failure"],
    ["Judge calls", counts.calls.toLocaleString("en"), `${share(counts.free, counts.calls)} at no cost`],
    ["Judge tokens", counts.tokens ? counts.tokens.toLocaleString("en") : "–", counts.cost ? `cost ${number(counts.cost)}` : "cost not known"],
    counts.from && ["Scoring took", durationWords(counts.to - counts.from), `from ${timeWords(counts.from)}`],
  ];
  return h("dl", { class: "tiles" }, cells.filter(Boolean).map(([name, value, more]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, h("b", {}, value), " ", h("span", { class: "quiet foreign" }, nodes(more))))));
}

export function durationWords(seconds) {
  if (seconds < 1) return `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function alarmWords(run) {
  const count = run.alarms.filter((alarm) => alarm.level === "alarm").length;
  if (!count) return null;
  const titles = run.alarms.filter((alarm) => alarm.level === "alarm").map((alarm) => alarm.title).join("; ");
  return h("p", { class: "notice alarm" }, h("span", { "aria-hidden": "true" }, "▲ "), link("alarms", `${count} ${count === 1 ? "alarm" : "alarms"}`), `: ${titles}.`);
}

/** "8.29 (8.00 to 8.58)" of a mean with its interval. */
export function interval(found, words = (value) => number(value, "0-10")) {
  if (!found) return "–";
  const [mean, low, high] = found;
  return low === null ? words(mean) : [words(mean), h("span", { class: "quiet nowrap" }, ` ${words(low)} to ${words(high)}`)];
}

function heldoutSection(run) {
  const found = run.heldout;
  if (!found) return null;
  const [{ means }] = found.columns;
  const changes = Object.keys(found.change).length > 0;
  const headings = ["of 10", ...found.columns.map((column) => column.name), ...(changes ? ["change"] : [])];
  const rows = Object.keys(means).map((name) => [
    name === "total" ? h("b", {}, "reward") : nodes(name),
    ...found.columns.map((column) => interval(column.means[name])),
    ...(changes ? [interval(found.change[name], signed)] : []),
  ]);
  const counts = found.columns.map((column) => `${column.name}: ${column.answers.toLocaleString("en")} answers, ${column.void} void`).join("; ");
  return h(
    "section",
    {},
    h("h2", {}, "Held-out scores"),
    table(`Mean and 95% interval over the ${found.columns[0].means.total?.[3] ?? ""} held-out prompts`, headings, rows),
    h("p", { class: "quiet" }, `${counts}. The change is taken over the prompts that both have.`),
  );
}

function curvesSection(run) {
  const { charts, note } = run.curves;
  if (!charts.length) return h("section", {}, h("h2", {}, "Curves"), h("p", {}, note || "There are no curves yet: no step has ended and no answer has been scored."));
  const flat = charts.filter((chart) => chart.part !== "more" && isFlatZero(chart));
  const drawn = charts.filter((chart) => chart.part !== "more" && !isFlatZero(chart));
  const more = charts.filter((chart) => chart.part === "more");
  const x = (drawn[0] ?? charts[0]).x;
  const cursors = new Map(charts.map((chart) => [chart.x, new Cursor()])); // charts with one axis are read together
  const draw = (chart) => figure(chart, cursors.get(chart.x));
  const spread = x === "step" ? "The band is one standard deviation among the answers of a step; in figures of the trainer, within groups." : "The band is one standard deviation among the answers.";
  const smooth = "Where a curve has many points, the strong line is a moving average.";
  const parts = PARTS.map(([part, title]) => {
    const mine = drawn.filter((chart) => chart.part === part);
    if (!mine.length) return null;
    return h("section", {}, h("h2", {}, title), part === "reward" ? h("p", { class: "quiet" }, `${spread} ${smooth}`) : null, h("div", { class: "charts" }, mine.map(draw)));
  });
  return [
    note ? h("p", { class: "quiet" }, note) : null,
    scrubber(drawn.filter((chart) => chart.x === x), cursors.get(x), x),
    parts,
    flat.length ? h("p", { class: "quiet" }, nodes(`Always 0, so not drawn: ${flat.map((chart) => chart.title.toLowerCase()).join(", ")}.`)) : null,
    more.length ? folded(`${more.length} more curves of the trainer`, () => h("div", { class: "charts" }, more.map(draw))) : null,
  ];
}

/** One slider moves the ruler of all charts: for the keyboard, and for fingers. */
export function scrubber(charts, cursor, xName) {
  const steps = [...new Set(charts.flatMap((chart) => chart.lines.flatMap((line) => line.x)))].sort((a, b) => a - b);
  if (steps.length < 2) return null;
  const told = h("output", { for: "ruler" });
  const tell = (x) => told.replaceChildren(x === null ? "last values" : `${xName} ${number(x)}`);
  const input = h("input", {
    id: "ruler", type: "range", min: 0, max: steps.length - 1, value: steps.length - 1,
    on: { input: () => cursor.set(steps[input.value]) },
  });
  cursor.listeners.push((x) => {
    tell(x);
    const place = x === null ? steps.length - 1 : steps.indexOf(x);
    if (place >= 0) input.value = place;
    input.setAttribute("aria-valuetext", x === null ? "last values" : `${xName} ${number(x)}`);
  });
  tell(null);
  return h("div", { class: "scrubber" }, h("label", { for: "ruler" }, "Read the curves at"), input, told);
}

function settings(run) {
  const text = (name, value) => (value ? folded(name, () => block(value, undefined, { class: "foreign text code", tabindex: "0", role: "region", "aria-label": name })) : null);
  return h("section", {}, h("h2", {}, "Settings"), text("config.yaml, as resolved", run.config), text("command.txt", run.command), h("p", { class: "quiet foreign" }, nodes(run.path)));
}
