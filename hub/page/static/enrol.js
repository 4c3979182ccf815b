// Adding a device: a claim, as a code to scan and a line to paste. What is
// shown is gone when the dialog closes: the hub cannot show it again.

import { $, body, h, put, toast } from "./dom.js";
import { post } from "./api.js";
import { clock, t, time } from "./words.js";

let shown = null; // id of the claim in the dialog

/** code draws rows of 1 and 0, dark on white in every theme. */
function code(rows) {
  const make = (tag, attrs) => {
    const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attrs)) el.setAttribute(key, value);
    return el;
  };
  const path = rows.flatMap((row, y) => [...row].map((c, x) => (c === "1" ? `M${x} ${y}h1v1h-1z` : ""))).join("");
  const el = make("svg", { class: "qr", viewBox: `0 0 ${rows.length} ${rows.length}`, role: "img", "aria-label": t("enrol.code") });
  el.append(make("path", { d: path }));
  return el;
}

function form() {
  const name = h("input", { id: "enrol-name", name: "name", autocomplete: "off", spellcheck: "false", maxlength: "127", placeholder: t("enrol.any") });
  return h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      const go = event.currentTarget.querySelector("button");
      go.disabled = true;
      try {
        show(await post("claims", split(name.value.trim())));
      } catch (err) {
        toast(err.message);
        go.disabled = false;
      }
    },
  },
  h("p", {}, t("enrol.hint")),
  h("label", { for: "enrol-name" }, t("enrol.name")), name,
  h("button", { class: "main", type: "submit" }, t("enrol.go")));
}

// split reads TENANT/NAME, as the command does.
function split(text) {
  const at = text.indexOf("/");
  return at < 0 ? { tenant: "default", name: text } : { tenant: text.slice(0, at), name: text.slice(at + 1) };
}

function show({ claim, line, qr }) {
  if (!$("enrol").open) return; // closed meanwhile: the claim is in the list of the command
  shown = claim.id;
  const field = h("input", { id: "enrol-line", readonly: true, value: `sudo dunlin-agent install '${line}'`, "aria-label": t("enrol.line"), onfocus: (event) => event.currentTarget.select() });
  put(body("enrol"),
    h("p", {}, t("enrol.use", { time: clock(time(claim.not_after), false) })),
    code(qr), field,
    line.includes("@https:") ? null : h("p", { class: "warn" }, t("enrol.plain")),
    h("p", { id: "enrol-state", role: "status" }, t("enrol.waits")));
  field.focus();
}

/** claimed takes what the hub says of a claim: that it was used, or that somebody tried it who should not. */
export function claimed(c) {
  if (c.id === shown && c.devices?.length) put($("enrol-state"), h("b", {}, t("enrol.joined", { device: c.devices.join(", ") })));
  if (c.refused > 0 && Date.now() - time(c.refused_at) < 60000) toast(t("enrol.refused", { from: c.refused_from ?? "", why: c.refused_why ?? "" }));
}

export function startEnrol() {
  const dialog = $("enrol");
  $("add").addEventListener("click", () => {
    put(body("enrol"), form());
    dialog.showModal();
    $("enrol-name").focus();
  });
  $("enrol-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    shown = null;
    put(body("enrol"));
  });
}
