// The registry's models, newest version first.

import { get } from "./api.js";
import { body, h, list, put } from "./dom.js";
import { bytes, digest, named, number, percent, t } from "./words.js";

const reportType = "application/vnd.dunlin.model.report.v1+json";
const mostReport = 2e6; // bytes; a longer report is not looked at

// What a pack says of itself is in its blobs, which never change: each report
// is read once. null: it has none, or it could not be read this time.
const reports = new Map();

async function report(manifest) {
  if (!reports.has(manifest)) {
    const { layers } = await get("blob/" + manifest);
    const layer = layers.find((l) => l.mediaType === reportType && l.size < mostReport);
    reports.set(manifest, layer ? await get("blob/" + layer.digest) : null);
  }
  return reports.get(manifest);
}

/** model reads what the hub and the pack say into what is shown. */
function model(m) {
  const r = reports.get(m.manifest);
  return {
    kind: m.kind ?? "model", name: m.name, version: m.version, digest: m.manifest, size: m.bytes, key: m.sig?.key ?? "", exact: Boolean(m.exact),
    precision: front(r)?.chosen ?? r?.quant?.to ?? "", front: front(r),
    // The set with the most pictures says most.
    accuracy: (r?.accuracy ?? []).reduce((best, a) => (a.samples > (best?.samples ?? 0) ? a : best), null),
  };
}

/** front reads what was promised of the model that was chosen from a front. */
function front(r) {
  const c = r?.certificate;
  const p = c?.front?.[c.chosen];
  if (!p) return null;
  const float = c.front[0];
  const bound = c.bound === "exact" ? p.exact : p.bernstein;
  return {
    chosen: String(p.name), certified: Boolean(c.certified), measure: c.measure === "agreement" ? "agreement" : "accuracy",
    smaller: p.bytes > 0 ? (float.bytes / p.bytes).toFixed(1) : "–", confidence: percent(c.confidence, 0), samples: number(c.samples), data: String(c.data),
    bound: points(bound), lost: points(p.drop), most: points(c.max_drop),
  };
}

const points = (share) => (100 * share).toFixed(2);

/** fetchReports reads the reports of models, the newest first, and draws again when there are new ones. */
export async function fetchReports(models) {
  const missing = models.filter((m) => m.kind !== "agent" && !reports.has(m.manifest)).slice(-20).reverse();
  for (const m of missing) await report(m.manifest).catch(() => {});
  if (missing.length) drawModels(models);
}

export function drawModels(models) {
  const at = body("models");
  const all = models.map(model).sort((a, b) => (a.name === b.name ? b.version - a.version : a.name < b.name ? -1 : 1));
  if (all.length === 0) {
    at.shown = undefined;
    put(at, h("p", { class: "empty" }, t("models.empty")));
    return;
  }
  list(at, all.slice(0, 50), (m) => `${m.name}@${m.version} ${m.digest}`, item);
}

function item(m) {
  return h("div", { class: "model" },
    h("p", { class: "head" },
      h("span", {}, h("b", {}, named(m.name, m.version)), " ", h("small", {}, digest(m.digest))),
      m.precision ? h("span", { class: "chip plain" }, m.precision) : null),
    h("p", { class: "facts" },
      pair("models.size", bytes(m.size)),
      m.accuracy ? pair("models.accuracy", h("span", { title: t("models.samples", m.accuracy) }, `${percent(m.accuracy.before, 2)} → ${percent(m.accuracy.after, 2)}`)) : null,
      m.kind === "agent" ? null : pair("models.exam", t(m.exact ? "models.exact" : "models.close")),
      m.key ? pair("models.key", h("code", { title: m.key }, m.key.slice(0, 16))) : pair("models.key", h("span", { class: "bad" }, t("models.unsigned")))),
    m.front ? picture(m) : null);
}

// picture is the front as the hub draws it: accuracy against size, the chosen form marked, what was promised below.
function picture(m) {
  const f = m.front;
  const said = f.certified ? t("front." + f.measure, f) : t("front.uncertified", f);
  return h("figure", { class: "front" },
    h("img", { src: `/v1/models/${encodeURIComponent(m.name)}/${m.version}/front.svg`, alt: t("front.alt", f), width: 440, height: 300 }),
    h("figcaption", {}, h("span", { class: f.certified ? "good" : "warn" }, f.certified ? "✓ " : "⚠ "), said));
}

const pair = (key, value) => h("span", { class: "pair" }, h("span", { class: "key" }, t(key)), " ", value);
