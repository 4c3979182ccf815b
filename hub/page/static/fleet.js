// The fleet: one row for each device.

import { body, h, list, put } from "./dom.js";
import { ago, digest, named, number, t, time, word } from "./words.js";

/** device reads what the hub says about a device (api.Device) into what a row shows. */
export function device(d) {
  const { hello = null, reported = null, wanted = null, counts = null } = d;
  const report = (kind) => (reported?.reports ?? []).find((r) => r.kind === kind) ?? null;
  const outbox = hello?.outbox ?? {};
  const first = Math.max(outbox.first ?? 0, (lastSeq.get(`${d.tenant}/${d.name} ${hello?.epoch}`) ?? 0) + 1);
  const heard = lastHeard.get(`${d.tenant}/${d.name}`) ?? 0;
  return {
    key: `${d.tenant}/${d.name}`, online: d.online, seen: Math.max(time(d.last_seen), heard),
    board: hello?.board ?? "", os: hello?.os ?? "", agent: hello?.agent ?? "", kernels: hello?.kernels ?? "",
    model: reported?.model ?? hello?.model ?? null, facts: reported?.facts ?? hello?.facts ?? null,
    wanted: wanted?.model ? { name: wanted.model.name, version: wanted.model.version, manifest: wanted.model.manifest } : null,
    report: report("model"), factsReport: report("facts"), agentReport: report("agent"), throttle: reported?.throttle ?? null,
    waiting: Math.max(0, (outbox.next ?? 0) - first),
    dropped: Math.max(counts?.dropped ?? 0, outbox.dropped ?? 0),
  };
}

// A device says what waits when it connects; what came since is taken off.
const lastSeq = new Map();
const lastHeard = new Map();

/** arrived notes that a record of a device was stored by the hub. */
export function arrived(device, epoch, seq, stored) {
  const key = `${device} ${epoch}`;
  if (seq > (lastSeq.get(key) ?? 0)) lastSeq.set(key, seq);
  if (stored > (lastHeard.get(device) ?? 0)) lastHeard.set(device, stored);
}

let tenants = new Set();

/** nameOf writes a device's name, with its tenant where there are several. */
export const nameOf = (key) => (tenants.size > 1 ? key : key.slice(key.indexOf("/") + 1));

const bad = { refused: "bad", reverted: "bad" };

export function drawFleet(devices) {
  const at = body("fleet");
  tenants = new Set(devices.map((d) => d.tenant));
  if (devices.length === 0) {
    at.shown = undefined;
    put(at, h("p", { class: "empty" }, t("fleet.empty")));
    return;
  }
  let rows = at.querySelector("tbody");
  if (!rows) {
    const head = ["device", "model", "state", "facts", "waiting", "dropped", "seen"];
    rows = h("tbody", {});
    put(at, h("table", { class: "fleet" },
      h("thead", {}, h("tr", {}, head.map((c) => h("th", { scope: "col", class: c }, t("fleet." + c))))), rows));
  }
  list(rows, devices.map(device).sort((a, b) => (a.key < b.key ? -1 : 1)), (d) => d.key, row);
}

function row(d) {
  const cell = (name, ...children) => h("td", { class: name, "data-name": t("fleet." + name) }, ...children);
  const machine = [d.os, d.kernels && `${t("fleet.kernels")} ${d.kernels}`, d.agent && `${t("fleet.agent")} ${d.agent}`].filter(Boolean);
  return h("tr", { class: d.online ? "on" : "off", "data-device": d.key },
    h("th", { scope: "row", class: "device", title: machine.join(" · ") },
      h("span", { class: "dot", title: t(d.online ? "online" : "offline") }),
      h("span", { class: "name", title: d.key }, nameOf(d.key)),
      h("span", { class: "sr" }, t(d.online ? "online" : "offline")),
      h("small", {}, d.board || d.os || ""), agentOf(d), held(d.throttle)),
    cell("model", d.model?.name ? [h("b", {}, `${d.model.name}@${d.model.version}`), h("small", {}, digest(d.model.digest))] : h("span", { class: "none" }, t("none"))),
    cell("state", state(d), other(d), wanted(d)),
    cell("facts", factsOf(d)),
    cell("waiting", h("span", { class: d.waiting ? "warn" : "" }, number(d.waiting))),
    cell("dropped", h("span", { class: d.dropped ? "bad" : "" }, number(d.dropped))),
    cell("seen", ago(d.seen)));
}

// held says in a line how a device holds itself back, and why on hover.
function held(at) {
  if (!at) return null;
  const does = [
    at.temp_c && `${Math.round(at.temp_c)} °C`, at.frames > 1 && t("fleet.frames", { n: number(at.frames) }),
    at.threads && t("fleet.threads", { n: number(at.threads) }), at.small && t("form.small"),
  ].filter(Boolean);
  return h("small", { class: "warn", title: at.why || null }, `${t("fleet.throttled")}: ${does.join(", ")}`);
}

// wanted names the model that the hub asked for, where it is another one.
function wanted(d) {
  if (!d.wanted || !d.wanted.name || d.wanted.manifest === d.model?.digest || d.report?.digest === d.wanted.manifest) return null;
  return h("small", {}, `${t("fleet.wanted")} ${d.wanted.name}@${d.wanted.version}`);
}

// same reports whether the newest report is about the model that answers.
const same = (d) => d.report?.digest === d.model?.digest;

// state is how the model does that answers, or the one that is to come where none does.
function state(d) {
  if (d.model?.name && !same(d)) return h("span", { class: "chip", "data-is": "active" }, word("state", "active"));
  if (!d.report) return h("span", { class: "none" }, t("none"));
  return h("span", { class: "chip", "data-is": d.report.state, title: d.report.error || null }, word("state", d.report.state));
}

// other says what became of another model, and why.
function other(d) {
  const r = d.report;
  if (!r || (same(d) && !(r.state in bad))) return null;
  return h("small", { class: r.state in bad ? "bad" : "busy", title: r.error || null },
    `${r.name}@${r.version} ${word("state", r.state)}`, r.reason ? `: ${word("reason", r.reason)}` : "");
}

// agentOf says what became of another agent than the one that runs for good.
function agentOf(d) {
  const r = d.agentReport;
  if (!r || r.state === "active") return null;
  return h("small", { class: `agent ${r.state in bad ? "bad" : "busy"}`, title: r.error || null },
    `${named(r.name, r.version)} ${word("state", r.state)}`, r.reason ? `: ${word("reason", r.reason)}` : "");
}

function factsOf(d) {
  const r = d.factsReport;
  return [
    d.facts?.graph ? `${d.facts.graph}@${d.facts.version}` : h("span", { class: "none" }, t("none")),
    r && r.state in bad ? h("small", { class: "bad", title: r.error || null }, word("reason", r.reason ?? r.state)) : null,
  ];
}
