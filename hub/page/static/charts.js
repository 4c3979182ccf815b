// Two charts over time: results by label, and how long an inference takes.
// They are drawn from the newest results only, by the time at which a device
// took the input where its clock can be trusted, else by the time of storing.

import uPlot from "/static/vendor/uplot/uPlot.esm.js";
import { get, hubNow } from "./api.js";
import { $, body, h, put } from "./dom.js";
import { result } from "./results.js";
import { clock, millis, number, t } from "./words.js";

const minute = 60000;
const windows = [ // what can be looked at: [span, width of a bar], in ms
  { name: "5m", span: 5 * minute, bin: 5000 },
  { name: "1h", span: 60 * minute, bin: minute },
  { name: "6h", span: 360 * minute, bin: 5 * minute },
];
const colours = 10; // of the labels; the last is for all others
const mostPoints = 20000;

let points = []; // {at, label, micros}, unordered
const have = new Set();
let view = null; // the window that a person chose, or null
let plots = [];

export function startCharts() {
  put(body("charts"), h("i", { id: "probe", hidden: true }),
    h("p", { class: "filters" }, h("span", { class: "grow" }),
      h("span", { class: "group", role: "group", "aria-label": t("charts.window") },
        windows.map((w) => h("button", { type: "button", "data-window": w.name, onclick: () => { view = w; drawCharts(); } }, t("charts." + w.name))))),
    h("div", { class: "pair" },
      h("figure", { id: "rate" }, h("figcaption", {}), h("div", { class: "plot", role: "img" }), h("ul", { class: "legend" })),
      h("figure", { id: "latency" }, h("figcaption", {}), h("div", { class: "plot", role: "img" }), h("ul", { class: "legend" }))));
  new ResizeObserver(later).observe($("rate"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
  setInterval(later, 2500);
}

/** fetchPoints loads what the charts begin with. */
export async function fetchPoints() {
  const since = new Date(hubNow() - windows.at(-1).span).toISOString();
  let after;
  for (let page = 0; page < 3; page++) {
    const answer = await get("results", { since, limit: 1000, order: "newest", after });
    for (const row of answer.rows) addPoint(result(row));
    after = answer.next;
    if (!after) break;
  }
}

/** addPoint counts a result once. */
export function addPoint(r) {
  if (have.has(r.key) || !r.at) return;
  have.add(r.key);
  points.push({ at: r.at, label: r.error ? "" : r.label, micros: r.error ? 0 : r.micros, key: r.key });
  if (points.length > mostPoints) {
    points.sort((a, b) => a.at - b.at);
    for (const p of points.splice(0, mostPoints / 10)) have.delete(p.key);
  }
  later();
}

let waiting = 0;
function later() {
  waiting ||= setTimeout(() => {
    waiting = 0;
    if (!document.hidden) drawCharts();
  }, 300);
}

/** perMinute is how many results came in the last five minutes, for each of them. */
export function perMinute() {
  const from = hubNow() - 5 * minute;
  return points.reduce((n, p) => n + (p.at >= from), 0) / 5;
}

// fits chooses the smallest window that holds all results of the last hour.
function fits(now) {
  const oldest = points.reduce((least, p) => (p.at > now - windows[1].span ? Math.min(least, p.at) : least), now);
  return oldest > now - windows[0].span ? windows[0] : windows[1];
}

export function drawCharts() {
  const at = $("rate");
  if (!at || !at.clientWidth) return;
  const now = hubNow();
  const w = view ?? fits(now);
  for (const b of body("charts").querySelectorAll("[data-window]")) b.setAttribute("aria-pressed", String(b.dataset.window === w.name));
  const end = Math.ceil(now / w.bin) * w.bin;
  const bins = Array.from({ length: Math.round(w.span / w.bin) }, (_, i) => end - w.span + i * w.bin);
  const sorted = bins.map(() => []);
  for (const p of points) {
    const i = Math.floor((p.at - bins[0]) / w.bin);
    if (i >= 0 && i < bins.length) sorted[i].push(p);
  }
  rate(w, bins, sorted);
  latency(w, bins, sorted);
}

// labelsOf are the labels by how often they are seen, at most colours-1 and "others" (null).
function labelsOf(sorted) {
  const counts = new Map();
  for (const p of sorted.flat()) counts.set(p.label, (counts.get(p.label) ?? 0) + 1);
  const names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1));
  if (names.length <= colours) return stable(names);
  return [...stable(names.slice(0, colours - 1)), null];
}

// A label keeps the colour that it was first given, as long as it is drawn.
const given = new Map();
function stable(names) {
  for (const name of [...given.keys()]) if (!names.includes(name)) given.delete(name);
  for (const name of names) {
    if (given.has(name)) continue;
    const used = new Set(given.values());
    let i = 0;
    while (used.has(i)) i++;
    given.set(name, i);
  }
  return names.sort((a, b) => given.get(a) - given.get(b));
}

function rate(w, bins, sorted) {
  const labels = labelsOf(sorted);
  const counts = labels.map((name) => sorted.map((list) => list.filter((p) => (name === null ? !labels.includes(p.label) : p.label === name)).length));
  // Bars are stacked by drawing the tallest sum first and the others over it.
  const sums = counts.map((_, i) => bins.map((_, b) => counts.slice(0, i + 1).reduce((n, c) => n + c[b], 0)));
  const order = labels.map((_, i) => i).reverse();
  const name = (i) => (labels[i] === null ? t("charts.others") : labels[i] === "" ? t("charts.errors") : labels[i]);
  const colour = (i) => (labels[i] === "" ? "--bad" : `--c${i % colours}`);
  const totals = counts.map((c) => c.reduce((a, b) => a + b, 0));
  const caption = t("charts.rate." + w.name);
  show("rate", caption, w, [bins, ...order.map((i) => sums[i])],
    order.map((i) => ({ fill: css(colour(i)), stroke: css(colour(i)), width: 0, paths: uPlot.paths.bars({ size: [0.82, 40], align: 1, radius: 0.1 }), points: { show: false } })),
    (v) => number(v), (i) => labels.map((_, l) => ({ name: name(l), colour: colour(l), value: number(i === null ? totals[l] : counts[l][i]) })), [0, 4]);
}

function latency(w, bins, sorted) {
  const quantile = (list, q) => (list.length ? list[Math.min(list.length - 1, Math.ceil(q * list.length) - 1)] : null);
  const times = sorted.map((list) => list.map((p) => p.micros).filter((m) => m > 0).sort((a, b) => a - b));
  const series = [0.5, 0.95].map((q) => times.map((list) => quantile(list, q)));
  const all = times.flat().sort((a, b) => a - b);
  const names = ["charts.median", "charts.p95"];
  const value = (s, i) => (i === null ? quantile(all, s === 0 ? 0.5 : 0.95) : series[s][i]);
  show("latency", t("charts.latency"), w, [bins, ...series],
    [{ stroke: css("--c0"), width: 2, spanGaps: true, points: { size: 5, fill: css("--c0") } }, { stroke: css("--c3"), width: 2, dash: [5, 4], spanGaps: true, points: { size: 5, fill: css("--c3") } }],
    (v) => millis(v), (i) => names.map((n, s) => ({ name: t(n), colour: s ? "--c3" : "--c0", value: value(s, i) === null ? "–" : millis(value(s, i)) })), [0, 1000]);
}

// show draws or updates one chart. legend(i) gives its words for the bar i, or for all when i is null.
function show(id, caption, w, data, series, axis, legend, least) {
  const figure = $(id);
  const box = figure.querySelector(".plot");
  const width = box.clientWidth;
  const height = box.clientHeight;
  const look = JSON.stringify([caption, series.length, series.map((s) => [s.fill, s.stroke]), width, height, css("--ink")]);
  const x = data[0].map((ms) => ms / 1000);
  const legendOf = (i) => drawLegend(figure, i === null ? "" : clock(data[0][i], w.bin < minute), legend(i));
  const was = plots[id];
  put(figure.querySelector("figcaption"), caption);
  box.setAttribute("aria-label", `${caption}. ${legend(null).map((l) => `${l.name} ${l.value}`).join(", ")}`);
  if (was?.look === look) {
    was.legendOf = legendOf;
    was.range = [x[0], x.at(-1) + w.bin / 1000];
    was.least = least;
    was.plot.setData([x, ...data.slice(1)]);
    if (was.at === null || was.at === undefined) legendOf(null);
    return;
  }
  was?.plot.destroy();
  const mine = { look, legendOf, least, range: [x[0], x.at(-1) + w.bin / 1000], at: null };
  plots[id] = mine;
  const line = { stroke: css("--line"), width: 1 };
  const text = { stroke: css("--soft"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  mine.plot = new uPlot({
    width, height, padding: [8, 18, 0, 0], legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: { x: { time: true, range: () => mine.range }, y: { range: (_, __, top) => [mine.least[0], Math.max(mine.least[1], (top ?? 0) * 1.1)] } },
    axes: [
      { ...text, grid: { show: false }, space: 64, size: 24, incrs: [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200], values: (_, splits) => splits.map((s) => clock(s * 1000, w.bin < minute && splits.length > 1 && splits[1] - splits[0] < 60)) },
      { ...text, grid: line, size: 52, space: 34, incrs: id === "rate" ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000, 1000000] : undefined, values: (_, splits) => splits.map(axis) },
    ],
    series: [{}, ...series],
    hooks: {
      setCursor: [(u) => {
        const i = u.cursor.left >= 0 ? u.cursor.idx : null;
        mine.at = i ?? null;
        mine.legendOf(mine.at);
      }],
    },
  }, [x, ...data.slice(1)], box);
  legendOf(null);
}

function drawLegend(figure, when, items) {
  put(figure.querySelector(".legend"),
    when ? h("li", { class: "when" }, when) : null,
    items.map((l) => h("li", {}, h("i", { vars: { "--c": `var(${l.colour})` } }), h("span", {}, l.name), " ", h("b", {}, l.value))));
}

// css resolves a colour of the style sheet for the canvas, which knows no variables.
function css(name) {
  const probe = $("probe");
  probe.style.setProperty("--probe", `var(${name})`);
  return getComputedStyle(probe).color;
}
