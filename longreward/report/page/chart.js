// Line charts. Our own: uPlot draws on a canvas, which screen readers and a change to dark do not reach, and Vega-Lite
// or Plotly would be 1 to 5 MB in each report for what is a line, a band and two axes.

import { h, svg, table } from "./dom.js";
import { nodes } from "./text.js";

const HEIGHT = 168;
const EDGE = { left: 44, right: 10, top: 8, bottom: 22 };
const FROM_ZERO = new Set(["share", "s", "calls", "cost", "statements", "nats", "tokens"]);
const DASHES = ["", "6 3", "2 3", "9 3 2 3", "4 2", "1 2"];
const DOTS = 30; // points of a line up to which each is drawn
const MANY = 80; // points of a line from which it is smoothed as well

/** A number as people read it: shares as percent, 3 digits that matter. */
export function number(value, unit = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (unit === "share") return `${(100 * value).toFixed(value !== 0 && Math.abs(value) < 0.1 ? 1 : 0)}%`;
  if (unit === "0-10" || unit === "reward") return value.toFixed(2);
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumFractionDigits: size < 1 ? 3 : size < 100 ? 2 : 0 });
}

export const signed = (value, digits = 2) => (value === null || value === undefined ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`);

const unitWords = (unit) => ({ "": "", share: "", "0-10": "of 10", cost: "", correlation: "", reward: "" })[unit] ?? unit;

/** The place that all charts of a page point at. */
export class Cursor {
  constructor() {
    this.x = null;
    this.listeners = [];
  }

  set(x) {
    this.x = x;
    for (const listener of this.listeners) listener(x);
  }
}

/** Whether there is anything to see: something other than 0. */
export const isFlatZero = (chart) => chart.lines.every((line) => line.y.every((value) => !value));

/** A chart as a figure with its heading, its values and the same as a table. Lines: {name, x, y, spread, colour?}. */
export function figure(chart, cursor, level = "h3") {
  const xName = chart.x;
  const lines = chart.lines.filter((line) => line.y.some((value) => value !== null));
  const values = h("span", { class: "value" });
  const legend = h("ul", { class: "legend" });
  const drawing = h("div", { class: "drawing" });
  const made = h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, h(level, {}, nodes(chart.title)), values),
    lines.length > 1 ? legend : null,
    drawing,
    asTable(chart, lines, xName),
  );
  const colour = (index) => lines[index].colour ?? index;
  const items = lines.map((line, index) => {
    const value = h("b", {});
    legend.append(h("li", {}, sample(colour(index)), " ", nodes(line.name), " ", value));
    return value;
  });
  const tell = (x) => {
    const found = lines.map((line) => at(line, x));
    items.forEach((item, index) => item.replaceChildren(number(found[index]?.y, chart.unit)));
    const [only] = found;
    values.replaceChildren(...(lines.length === 1 && only ? valueWords(only, chart, xName, x === null ? lines[0] : null) : []));
  };
  let pointer = null;
  const draw = (width) => {
    const plot = new Plot(lines, chart, width);
    drawing.replaceChildren(plot.draw(colour, describe(chart, lines, xName)));
    pointer = plot;
    pointer.point(cursor.x);
  };
  new ResizeObserver(([entry]) => entry.contentRect.width > 0 && draw(Math.round(entry.contentRect.width))).observe(drawing);
  drawing.addEventListener("pointermove", (event) => pointer && cursor.set(pointer.nearest(event.clientX - drawing.getBoundingClientRect().left)));
  drawing.addEventListener("pointerleave", () => cursor.set(null));
  cursor.listeners.push((x) => {
    pointer?.point(x);
    tell(x);
  });
  tell(null);
  return made;
}

function valueWords(point, chart, xName, line) {
  const around = point.spread === null || point.spread === undefined ? "" : ` ± ${number(point.spread, chart.unit)}`;
  const first = line?.y.find((value) => value !== null);
  const change = line && line.y.length > 1 && chart.unit !== "share" ? h("span", { class: "quiet" }, `, first ${number(first, chart.unit)}`) : "";
  return [h("b", {}, number(point.y, chart.unit)), `${around} ${unitWords(chart.unit)}`.trimEnd(), change, line ? "" : h("span", { class: "quiet" }, ` at ${xName} ${number(point.x)}`)];
}

/** The point of a line at x or the last one before it; the last of all for null. */
function at(line, x) {
  let found = null;
  for (let i = 0; i < line.x.length; i += 1) {
    if (x !== null && line.x[i] > x) break;
    if (line.y[i] !== null) found = { x: line.x[i], y: line.y[i], spread: line.spread?.[i] };
  }
  return found;
}

function sample(index) {
  const path = svg("line", { x1: 0, y1: 5, x2: 22, y2: 5, class: `line c${index % 6}`, "stroke-dasharray": DASHES[index % 6] });
  return svg("svg", { width: 22, height: 10, "aria-hidden": "true", class: "sample" }, path);
}

function describe(chart, lines, xName) {
  const said = lines.map((line) => {
    const known = line.y.filter((value) => value !== null);
    const name = lines.length > 1 ? `${line.name}: ` : "";
    const ends = `${number(known[0], chart.unit)} at first, ${number(known.at(-1), chart.unit)} at last`;
    return `${name}${ends}, from ${number(Math.min(...known), chart.unit)} to ${number(Math.max(...known), chart.unit)}`;
  });
  return `${chart.title} by ${xName}. ${said.join("; ")}. The table below has every value.`;
}

function asTable(chart, lines, xName) {
  const made = h("details", { class: "figures" }, h("summary", {}, "Figures"));
  made.addEventListener("toggle", () => {
    if (!made.open || made.children.length > 1) return;
    const headings = [xName, ...lines.flatMap((line) => [nodes(line.name), ...(line.spread ? [nodes(`standard deviation of ${line.name}`)] : [])])];
    const steps = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const places = lines.map((line) => new Map(line.x.map((x, index) => [x, index])));
    const rows = steps.map((x) => [
      number(x),
      ...lines.flatMap((line, index) => {
        const place = places[index].get(x);
        return [number(line.y[place], chart.unit), ...(line.spread ? [number(line.spread[place], chart.unit)] : [])];
      }),
    ]);
    made.append(table(chart.title, headings, rows));
  });
  return made;
}

class Plot {
  constructor(lines, chart, width) {
    Object.assign(this, { lines, chart, width });
    const xs = lines.flatMap((line) => [line.x[0], line.x.at(-1)]);
    this.xs = [Math.min(...xs), Math.max(...xs)];
    const ys = [];
    for (const line of lines) {
      line.y.forEach((value, i) => {
        if (value === null) return;
        const around = line.spread?.[i] ?? 0;
        ys.push(value - around, value + around);
      });
    }
    let [low, high] = ys.reduce(([a, b], y) => [Math.min(a, y), Math.max(b, y)], [Infinity, -Infinity]);
    if (FROM_ZERO.has(chart.unit)) low = Math.min(0, low);
    if (chart.unit === "0-10") [low, high] = [Math.max(0, low), Math.min(10, high)];
    if (high - low < 1e-9) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
    if (chart.unit === "0-10") [low, high] = [Math.max(0, low), Math.min(10, high)];
    this.ticks = ticks(low, high, 4);
    this.ys = [Math.min(low, this.ticks[0]), Math.max(high, this.ticks.at(-1))];
  }

  x(value) {
    const [from, to] = this.xs;
    const space = this.width - EDGE.left - EDGE.right;
    return EDGE.left + (to > from ? ((value - from) / (to - from)) * space : space / 2);
  }

  y(value) {
    const [from, to] = this.ys;
    return HEIGHT - EDGE.bottom - ((Math.min(to, Math.max(from, value)) - from) / (to - from)) * (HEIGHT - EDGE.top - EDGE.bottom);
  }

  draw(colour, words) {
    const made = svg("svg", { width: this.width, height: HEIGHT, viewBox: `0 0 ${this.width} ${HEIGHT}`, role: "img", "aria-label": words });
    for (const tick of this.ticks) {
      const y = this.y(tick);
      made.append(
        svg("line", { x1: EDGE.left, x2: this.width - EDGE.right, y1: y, y2: y, class: "grid" }),
        svg("text", { x: EDGE.left - 6, y: y + 4, "text-anchor": "end", class: "tick" }, tickWords(tick, this.chart.unit, this.ticks)),
      );
    }
    for (const tick of ticks(...this.xs, Math.max(2, Math.floor(this.width / 90))).filter((tick) => tick >= this.xs[0] && tick <= this.xs[1])) {
      made.append(svg("text", { x: this.x(tick), y: HEIGHT - 6, "text-anchor": "middle", class: "tick" }, number(tick)));
    }
    this.lines.forEach((line, index) => this.line(made, line, colour(index)));
    this.rule = svg("line", { y1: EDGE.top, y2: HEIGHT - EDGE.bottom, class: "rule", visibility: "hidden" });
    this.dots = this.lines.map((_, index) => svg("circle", { r: 4, class: `dot c${colour(index) % 6}`, visibility: "hidden" }));
    made.append(this.rule, ...this.dots);
    return made;
  }

  line(made, line, colour) {
    const known = line.x.map((x, i) => [x, line.y[i], line.spread?.[i] ?? null]).filter(([, y]) => y !== null);
    const around = known.filter(([, , spread]) => spread !== null);
    if (around.length > 1) {
      const up = around.map(([x, y, spread]) => `${this.x(x).toFixed(1)},${this.y(y + spread).toFixed(1)}`);
      const down = around.map(([x, y, spread]) => `${this.x(x).toFixed(1)},${this.y(y - spread).toFixed(1)}`).reverse();
      made.append(svg("polygon", { points: [...up, ...down].join(" "), class: `band c${colour % 6}` }));
    }
    const draw = (pairs, attributes) => made.append(svg("polyline", { points: pairs.map(([x, y]) => `${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`).join(" "), ...attributes }));
    if (known.length > MANY) draw(known, { class: `line thin c${colour % 6}` });
    draw(known.length > MANY ? smoothed(known) : known, { class: `line c${colour % 6}`, "stroke-dasharray": DASHES[colour % 6] });
    if (known.length <= DOTS) for (const [x, y] of known) made.append(svg("circle", { cx: this.x(x), cy: this.y(y), r: 2, class: `point c${colour % 6}` }));
  }

  /** The x of the point that is nearest to a place, in pixels. */
  nearest(place) {
    const [from, to] = this.xs;
    const x = from + ((place - EDGE.left) / (this.width - EDGE.left - EDGE.right)) * (to - from);
    let best = from;
    for (const line of this.lines) for (const value of line.x) if (Math.abs(value - x) < Math.abs(best - x)) best = value;
    return best;
  }

  point(x) {
    if (x !== null) this.rule.setAttribute("transform", `translate(${this.x(x)} 0)`);
    this.rule.setAttribute("visibility", x === null ? "hidden" : "visible");
    this.lines.forEach((line, index) => {
      const found = x === null ? null : at(line, x);
      this.dots[index].setAttribute("visibility", found ? "visible" : "hidden");
      if (found) this.dots[index].setAttribute("cx", this.x(found.x));
      if (found) this.dots[index].setAttribute("cy", this.y(found.y));
    });
  }
}

/** A moving average of pairs, over a fortieth of them to either side. */
function smoothed(pairs) {
  const reach = Math.round(pairs.length / 40);
  return pairs.map(([x], place) => {
    const near = pairs.slice(Math.max(0, place - reach), place + reach + 1);
    return [x, near.reduce((sum, [, y]) => sum + y, 0) / near.length];
  });
}

function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found.length ? found : [low];
}

function tickWords(value, unit, all) {
  if (unit === "share") return `${+(100 * value).toFixed(all.at(-1) < 0.05 ? 1 : 0)}%`;
  const size = Math.max(...all.map(Math.abs));
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value === 0 ? "0" : value.toExponential(0);
  return String(+value.toFixed(size < 0.1 ? 4 : size < 1 ? 3 : 2));
}
