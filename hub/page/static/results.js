// Results as they come: the newest first, each opens to all that is known.

import { get } from "./api.js";
import { $, body, h, list, put, toast } from "./dom.js";
import { arrived, nameOf } from "./fleet.js";
import { meet, proof, sentences } from "./facts.js";
import { clock, digest, has, millis, number, percent, t, time, word } from "./words.js";

const most = 200; // rows on the page at once; "older" adds a page more
const late = 10000; // ms between taking and storing that are worth a word

let shown = []; // newest first
let limit = most;
let next = null; // where the next older page begins
const chosen = { device: "", label: "" };
const known = { device: new Set(), label: new Set() };
let changed = () => {};

/** result reads a row of the hub's (api.ResultRow) into what is shown. */
export function result(row) {
  const r = row.result ?? {};
  const stored = time(row.stored_at);
  const taken = r.clock?.sync && r.clock.sync !== "none" ? time(r.clock.wall) : 0;
  const labels = r.labels ?? [];
  return {
    key: `${row.device} ${row.epoch} ${row.seq}`, device: row.device, epoch: row.epoch, seq: row.seq,
    stored, taken, at: taken || stored, order: Number(row.id),
    label: labels[0]?.label ?? "", score: labels[0]?.score ?? 0, labels, facts: r.facts ?? [], factsAt: r.facts_at ?? null,
    micros: r.micros ?? 0, error: r.error ?? "", input: r.input ?? "", why: row.explanation ?? null, id: row.id, source: r.source ?? "", model: r.model ?? null,
  };
}

/** startResults draws the frame; onChange is called when another filter is chosen. */
export function startResults(onChange) {
  changed = onChange;
  put(body("results"),
    h("p", { class: "filters" }, filter("device"), filter("label"), h("span", { class: "grow" }), h("small", { id: "results-count" })),
    h("div", { class: "list", id: "results-list" }),
    h("p", { class: "actions" }, h("span", { class: "grow" }), h("button", { type: "button", id: "older", hidden: true, onclick: older }, t("results.older")), h("span", { class: "grow" })));
}

function filter(name) {
  return h("label", {}, h("span", { class: "key" }, t("results." + name)), " ",
    h("select", {
      id: "filter-" + name,
      onchange: async (event) => {
        chosen[name] = event.target.value;
        limit = most;
        changed();
      },
    }, h("option", { value: "" }, t("results.any"))));
}

/** learn offers another value in a filter. */
export function learn(name, value) {
  if (!value || known[name].has(value) || known[name].size >= 500) return;
  known[name].add(value);
  const select = $("filter-" + name);
  const options = [...select.options].slice(1);
  const before = options.find((o) => o.value > value) ?? null;
  select.insertBefore(h("option", { value }, value), before);
}

/** fetchResults replaces what is shown by the newest page. */
export async function fetchResults() {
  const asked = { ...chosen };
  const answer = await get("results", { ...asked, limit: 100, order: "newest" });
  if (asked.device !== chosen.device || asked.label !== chosen.label) return;
  shown = [...new Map(answer.rows.map(result).map((r) => [r.key, r])).values()];
  next = answer.next || null;
  for (const r of shown) learnFrom(r);
  draw();
}

async function older() {
  const button = $("older");
  button.disabled = true;
  try {
    const answer = await get("results", { ...chosen, limit: 100, order: "newest", after: next });
    limit += 100;
    next = answer.next || null;
    add(answer.rows.map(result));
  } catch (err) {
    toast(err.message);
  } finally {
    button.disabled = false;
  }
}

const learnFrom = (r) => {
  learn("device", r.device);
  learn("label", r.label);
  meet(r.labels);
  arrived(r.device, r.epoch, r.seq, r.stored);
};

/** addResult puts a row that just came in its place. */
export function addResult(r) {
  learnFrom(r);
  if ((chosen.device && r.device !== chosen.device) || (chosen.label && r.label !== chosen.label)) return;
  add([r]);
}

/** explained takes over the explanation of a row that is shown. */
export function explained(r) {
  const at = shown.findIndex((s) => s.key === r.key);
  if (at < 0) return;
  shown[at] = r;
  later();
}

function add(more) {
  const have = new Set(shown.map((r) => r.key));
  shown.push(...more.filter((r) => !have.has(r.key)));
  shown.sort((a, b) => b.order - a.order || b.seq - a.seq);
  if (shown.length > limit) shown.length = limit;
  later();
}

let waiting = 0;
// later draws at most once a frame: a device that was away sends many at once.
function later() {
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    draw();
  });
}

function draw() {
  $("older").hidden = !next;
  put($("results-count"), shown.length ? t("results.shown", { n: number(shown.length) }) : "");
  const at = $("results-list");
  if (shown.length === 0) {
    at.shown = undefined;
    put(at, h("p", { class: "empty" }, t("results.empty")));
    return;
  }
  list(at, shown, (r) => r.key, item);
}

function item(r) {
  const el = h("details", { class: r.error ? "result failed" : "result", "data-key": r.key },
    h("summary", {},
      h("span", { class: "time" }, clock(r.at)),
      h("span", { class: "label" }, r.error ? h("span", { class: "bad" }, r.error) : r.label || t("results.nolabel")),
      bar(r.error ? null : r.score),
      h("span", { class: "from", title: r.device }, nameOf(r.device)),
      h("span", { class: "ms" }, millis(r.micros)),
      h("span", { class: "input" }, digest(r.input)),
      h("span", { class: "said" }, r.why ? h("span", { class: "chip plain" }, t("results.explained")) : null, sentences(r.facts, names(r)).slice(0, 3).map((s, i) => [i ? " · " : "", h("span", { title: s.source || null }, s.text)]))));
  // The rest is made when somebody looks: most rows are never opened.
  el.addEventListener("toggle", () => {
    if (el.open && el.children.length === 1) el.append(whole(r));
  });
  return el;
}

function bar(score) {
  if (score === null) return h("span", { class: "score" });
  return h("span", { class: "score", title: percent(score, 2) },
    h("span", { class: "track" }, h("i", { vars: { "--w": `${Math.max(0, Math.min(100, 100 * score)).toFixed(1)}%` } })),
    h("span", { class: "n" }, percent(score, 0)));
}

// names are the labels by which a person knows the entities of a result.
function names(r) {
  const found = new Map();
  for (const l of r.labels) if (l.entity) found.set(l.entity, l.label);
  return found;
}

function whole(r) {
  return h("div", { class: "whole" },
    r.labels.length > 1 ? h("ul", { class: "labels" }, r.labels.map((l) => h("li", {}, h("span", { class: "label", title: l.entity || null }, l.label), bar(l.score)))) : null,
    r.why ? why(r) : null,
    proof(r.facts, names(r)) ?? h("p", { class: "none" }, t("results.nofacts")),
    h("dl", { class: "more" },
      pair("results.model", r.model?.name ? `${r.model.name}@${r.model.version} ${word("form", r.model.form ?? "")} ` : "", r.model ? digest(r.model.digest) : null),
      r.factsAt ? pair("results.graph", `${r.factsAt.graph}@${r.factsAt.version}`) : null,
      pair("results.source", r.source.replace(/^(folder|http|mqtt)(?=:|$)/, (kind) => word("source", kind))),
      pair("results.input", h("code", {}, r.input || "–")),
      pair("results.taken", r.taken ? clock(r.taken) : t("results.noclock")),
      pair("results.stored", clock(r.stored), r.taken && r.stored - r.taken > late ? ` (${t("results.late", { s: number(Math.round((r.stored - r.taken) / 1000)) })})` : ""),
      pair("results.record", h("code", {}, `${r.device} · ${r.epoch} · ${r.seq}`))));
}

// why is the picture of what the answer rests on, which the hub keeps beside it.
function why(r) {
  const words = t(has("why." + r.why.method) ? "why." + r.why.method : "why.other", { method: r.why.method, label: r.why.label || r.label || t("results.nolabel") });
  return h("figure", { class: "why" },
    h("img", { src: `/v1/results/${encodeURIComponent(r.id)}/explanation?at=${encodeURIComponent(r.why.at)}`, alt: words }),
    h("figcaption", {}, words));
}

const pair = (key, ...value) => h("div", {}, h("dt", {}, t(key)), h("dd", {}, ...value));
