// The page's own words, and how numbers, times and names are written. Words
// live in text.json, one table for each language.

import { h } from "./dom.js";
import { hubNow } from "./api.js";

let table = {};
let fallback = {};
export let lang = "en";

/** loadWords fetches the table and fills every element with data-text. */
export async function loadWords() {
  const all = await (await fetch("/static/text.json")).json();
  lang = navigator.languages.map((l) => l.slice(0, 2)).find((l) => l in all) ?? "en";
  fallback = all.en;
  table = all[lang];
  document.documentElement.lang = lang === "zh" ? "zh-Hans" : lang;
  for (const el of document.querySelectorAll("[data-text]")) el.textContent = t(el.dataset.text);
}

/** t returns the words for key, with {name} replaced by args.name. */
export function t(key, args = {}) {
  const text = table[key] ?? fallback[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => args[name] ?? all);
}

/** has reports whether there are words for key. */
export const has = (key) => key in fallback;

/** word is t for a value of the hub's (a state, a reason): unknown ones are shown as they came. */
export const word = (group, value) => (value === "" ? "" : has(`${group}.${value}`) ? t(`${group}.${value}`) : String(value));

export const number = (n) => Number(n ?? 0).toLocaleString(lang);

/** percent writes a share of 1. */
export const percent = (x, digits = 1) => (100 * x).toFixed(digits) + " %";

export function bytes(n) {
  if (!(n >= 0)) return "";
  const units = ["B", "KB", "MB", "GB"];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1000;
  return (i && n < 100 ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}

/** millis writes a duration given in microseconds. */
export function millis(micros) {
  const ms = micros / 1000;
  return (ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : Math.round(ms)) + " ms";
}

/** short cuts a digest to what a person compares. */
export const short = (digest) => (digest ?? "").replace(/^sha256:/, "").slice(0, 12);

/** digest shows a short digest with the whole one on hover. */
export const digest = (d, ...more) => (d ? h("code", { title: d }, short(d), ...more) : null);

/** named writes a version of a model, or of the agent, whose versions are numbers of three parts. */
export const named = (name, v) => (name === "dunlin-agent" ? `${name} ${Math.floor(v / 1e6)}.${Math.floor(v / 1e3) % 1e3}.${v % 1e3}` : `${name}@${v}`);

/** tail is the readable end of an IRI. */
export function tail(iri) {
  let end = iri.replace(/[/#]+$/, "").split(/[/#]/).pop() || iri;
  try {
    end = decodeURIComponent(end);
  } catch {
    // not percent-encoded after all
  }
  return end.replace(/[-_]+/g, " ");
}

const clockFormat = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

/** clock writes a time of today as 14:03:22, and an older one with its date. */
export function clock(ms, seconds = true) {
  const d = new Date(ms);
  const format = seconds ? clockFormat : { ...clockFormat, second: undefined };
  if (d.toDateString() !== new Date(hubNow()).toDateString()) return d.toLocaleString(lang, { month: "short", day: "numeric", ...format, second: undefined });
  return d.toLocaleTimeString(lang, format);
}

/** ago is a <time> that retick keeps right. */
export function ago(ms) {
  if (!ms) return h("span", {}, t("never"));
  return h("time", { datetime: new Date(ms).toISOString(), title: new Date(ms).toLocaleString(lang), "data-ago": ms }, agoText(ms));
}

function agoText(ms) {
  const s = Math.max(0, Math.round((hubNow() - ms) / 1000));
  if (s < 5) return t("now");
  const [n, unit] = s < 60 ? [s - (s % 5), "second"] : s < 3600 ? [Math.floor(s / 60), "minute"] : s < 86400 ? [Math.floor(s / 3600), "hour"] : [Math.floor(s / 86400), "day"];
  return new Intl.RelativeTimeFormat(lang, { numeric: "always", style: "narrow" }).format(-n, unit);
}

/** retick rewrites all times that say how long ago they were. */
export function retick() {
  for (const el of document.querySelectorAll("[data-ago]")) {
    const text = agoText(Number(el.dataset.ago));
    if (el.textContent !== text) el.textContent = text;
  }
}

/** time parses a time of the hub's; 0 for none and for Go's zero time. */
export function time(text) {
  const ms = Date.parse(text ?? "");
  return ms > 0 ? ms : 0;
}
