// Rollouts: how far the two waves are, what the gate says, and the buttons.

import { ask, body, h, list, put, toast } from "./dom.js";
import { post } from "./api.js";
import { ago, clock, digest, named, number, t, time, word } from "./words.js";

const stages = ["passed", "trial", "assigned", "stuck", "failed", "back", "waiting"];
const ended = (r) => r.phase === "done" || r.phase === "rolled_back";

/** rollout reads what the hub says (rollout.State) into what is shown. */
function rollout(s) {
  const devices = s.devices ?? [];
  return {
    id: s.id, model: s.new, phase: s.phase, held: s.held ?? "", why: s.why ?? "", created: time(s.created), since: time(s.since),
    waves: [devices.filter((d) => d.canary), devices.filter((d) => !d.canary)].map((wave) => ({
      size: wave.length,
      offline: wave.filter((d) => !d.online).length,
      answers: wave.reduce((n, d) => n + Math.max(0, d.after.runs - d.base.runs), 0),
      counts: stages.map((stage) => [stage, wave.filter((d) => d.stage === stage).length]).filter(([, n]) => n > 0),
      failed: wave.filter((d) => d.stage === "failed" || d.stage === "stuck").slice(0, 3)
        .map((d) => ({ name: d.name, reason: d.reason ?? "", error: d.error ?? "" })),
    })),
  };
}

export function drawRollouts(rollouts) {
  const at = body("rollouts");
  const all = rollouts.map(rollout).sort((a, b) => b.created - a.created || (a.id < b.id ? 1 : -1));
  if (all.length === 0) {
    at.shown = undefined;
    put(at, h("p", { class: "empty" }, t("rollouts.empty")));
    return;
  }
  // What runs is open; of what ended the newest is shown whole when nothing runs.
  const whole = new Set(all.filter((r) => !ended(r)).map((r) => r.id));
  if (whole.size === 0) whole.add(all[0].id);
  list(at, all.slice(0, 20).map((r) => ({ ...r, whole: whole.has(r.id) })), (r) => r.id, (r) => (r.whole ? card(r) : line(r)));
}

const title = (r) => [h("b", {}, named(r.model.name, r.model.version)), " ", h("small", {}, digest(r.model.digest))];
const phase = (r) => h("span", { class: "chip", "data-is": r.phase }, word("phase", r.phase));

function line(r) {
  return h("p", { class: "rollout past", title: r.why || null }, h("span", {}, title(r)), phase(r), h("small", {}, clock(r.since, false)));
}

function card(r) {
  return h("article", { class: "rollout", "data-rollout": r.id },
    h("p", { class: "head" }, h("span", {}, title(r)), phase(r)),
    h("div", { class: "waves" }, wave(r, 0), h("span", { class: "arrow", "aria-hidden": "true" }, "›"), wave(r, 1)),
    r.why ? h("p", { class: "gate" }, r.phase === "canary" || r.phase === "all" ? h("span", { class: "key" }, t("rollouts.gate"), " ") : null, r.why) : null,
    r.waves.flatMap((w) => w.failed).map((d) => h("p", { class: "gate bad", title: d.error || null }, `${d.name}: `, word("reason", d.reason))),
    h("p", { class: "actions" },
      h("small", {}, ago(r.since)),
      h("span", { class: "grow" }),
      r.phase === "draft" ? button(r, "start") : null,
      r.phase === "canary" || r.phase === "all" ? button(r, "pause") : null,
      r.phase === "paused" ? button(r, "resume") : null,
      !ended(r) && r.phase !== "aborting" ? button(r, "abort") : null));
}

function wave(r, i) {
  const w = r.waves[i];
  const passed = w.counts.find(([stage]) => stage === "passed")?.[1] ?? 0;
  const words = w.counts.map(([stage, n]) => `${number(n)} ${word("stage", stage)}`);
  const open = ended(r) || (r.phase === "paused" ? r.held : r.phase) === (i === 0 ? "canary" : "all");
  return h("div", { class: open ? "wave open" : "wave" },
    h("span", { class: "key" }, t(i === 0 ? "rollouts.canary" : "rollouts.all")), " ",
    h("span", { class: "count" }, `${number(passed)}/${number(w.size)}`),
    h("div", { class: "meter", role: "img", "aria-label": words.join(", ") || t("none"), title: words.join(", ") },
      w.counts.map(([stage, n]) => h("i", { class: stage, vars: { "--n": String(n) } }))),
    h("small", {}, [words.join(" · ") || t("rollouts.nobody"), w.offline > 0 && t("rollouts.offline", { n: number(w.offline) }), w.answers > 0 && t("rollouts.answers", { n: number(w.answers) })].filter(Boolean).join(" · ")));
}

function button(r, action) {
  const name = named(r.model.name, r.model.version);
  return h("button", {
    type: "button", class: action === "abort" ? "danger" : "", "data-act": action,
    onclick: async (event) => {
      const asked = event.currentTarget;
      if (!(await ask(t(`rollouts.ask.${action}`, { model: name }), t(`rollouts.${action}`)))) return;
      asked.disabled = true;
      try {
        await post(`rollouts/${encodeURIComponent(r.id)}/${action}`);
      } catch (err) {
        toast(err.message);
      } finally {
        asked.disabled = false;
      }
    },
  }, t(`rollouts.${action}`));
}
