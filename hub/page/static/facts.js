// Facts: as sentences beside a result, and for one thing looked up.

import { get } from "./api.js";
import { $, body, h, list, put } from "./dom.js";
import { clock, number, t, tail, time } from "./words.js";

const label = "http://www.w3.org/2000/01/rdf-schema#label";
const subClass = "http://www.w3.org/2000/01/rdf-schema#subClassOf";
const source = "http://purl.org/dc/terms/source";

// What names a thing is less than what is said of it, and comes last. Its
// source is not a fact to be read beside the others: each has it by itself.
const rank = (predicate) => (predicate === label ? 2 : predicate === subClass ? 1 : 0);

/**
 * sentences joins the facts (facts.Answer of the hub) that share subject and
 * predicate: "material: leather, rubber". names gives entities their names.
 */
export function sentences(answers, names = new Map()) {
  const groups = new Map();
  for (const a of answers) {
    if (a.p === source) continue;
    const key = a.s + "\n" + a.p;
    const group = groups.get(key) ?? { iri: a.s, subject: names.get(a.s) ?? tail(a.s), rank: rank(a.p), predicate: a.label || tail(a.p), answers: [] };
    group.answers.push(a);
    groups.set(key, group);
  }
  const subjects = [...new Set(answers.map((a) => a.s))];
  return [...groups.values()]
    .sort((a, b) => subjects.indexOf(a.iri) - subjects.indexOf(b.iri) || a.rank - b.rank)
    .map((g) => ({
      ...g,
      text: `${g.predicate}: ${g.answers.map((a) => a.o).join(", ")}`,
      source: [...new Set(g.answers.map((a) => [a.source, a.graph].filter(Boolean).join(" · ")).filter(Boolean))].join("; "),
    }));
}

/** proof lists facts with where each comes from; said once, where all come from one source. */
export function proof(answers, names) {
  const all = sentences(answers, names);
  if (all.length === 0) return null;
  const one = new Set(all.map((s) => s.source)).size === 1;
  const from = (text) => (text ? h("small", { class: "source" }, t("facts.from", { source: text })) : null);
  return h("ul", { class: "proof" },
    all.map((s, i) => [
      s.iri !== all[i - 1]?.iri ? h("li", { class: "subject", title: s.iri }, s.subject) : null,
      h("li", { title: s.source || null }, h("span", { class: "key", title: s.answers[0].p }, s.predicate), " ",
        s.answers.map((a, j) => [j ? ", " : "", a.o_iri ? thing(a.o_iri, a.o) : h("span", {}, a.o, before(a))]),
        one ? null : from(s.source)),
    ]),
    one ? h("li", {}, from(all[0].source)) : null);
}

// before says how long before the result a fact was measured; what is a second
// old is of the moment.
function before(a) {
  const age = a.measured?.age_ms ?? 0;
  return age >= 1500 ? ` (${t("facts.before", { s: number(Math.round(age / 1000)) })})` : "";
}

// thing is an entity that can be looked up.
function thing(iri, name) {
  return h("button", { type: "button", class: "thing", title: iri, onclick: () => look(iri) }, name);
}

const seen = new Map(); // name in lower case -> [name, IRI]

/** meet remembers an entity by its name, to be found by typing it. */
export function meet(labels) {
  for (const l of labels) {
    const key = l.label?.toLowerCase();
    if (!l.entity || !key || seen.has(key) || seen.size >= 500) continue;
    seen.set(key, [l.label, l.entity]);
    $("entities")?.append(h("option", { value: l.label }));
  }
}

/** startFacts draws the frame of the section. */
export function startFacts() {
  put(body("facts"),
    h("div", { id: "graphs" }),
    h("form", { class: "search", role: "search", onsubmit: (event) => { event.preventDefault(); look(new FormData(event.target).get("q").trim()); } },
      h("label", { class: "sr", for: "entity" }, t("facts.search")),
      h("input", { id: "entity", name: "q", type: "search", list: "entities", placeholder: t("facts.search"), spellcheck: "false", autocomplete: "off", required: true }),
      h("datalist", { id: "entities" }, [...seen.values()].map(([name]) => h("option", { value: name }))),
      h("button", { type: "submit" }, t("facts.go"))),
    h("div", { id: "described", "aria-live": "polite" }));
}

let graphs = []; // names

/** drawGraphs lists the graphs (api.Graph) and their versions. */
export function drawGraphs(all) {
  const at = $("graphs");
  graphs = all.map((g) => g.name);
  if (!at) return;
  if (all.length === 0) {
    at.shown = undefined;
    put(at, h("p", { class: "empty" }, t("facts.empty")));
    return;
  }
  list(at, all.slice(0, 20), (g) => g.name, (g) => h("p", { class: "graph", title: g.manifest || null },
    h("b", {}, `${g.name}@${g.version}`), " ",
    h("small", {}, [
      t("facts.count", { n: number(g.facts) }),
      t("facts.change", { added: number(g.added), removed: number(g.removed) }),
      clock(time(g.changed), false),
    ].join(" · "))));
}

let asked = 0;
async function look(text) {
  if (!text) return;
  const mine = ++asked;
  const [name, iri] = seen.get(text.toLowerCase()) ?? [tail(text), text];
  const at = $("described");
  $("entity").value = text;
  let shown;
  try {
    const answers = await Promise.all(graphs.map((graph) => get("facts/describe", { graph, iri })));
    const facts = answers.flatMap((a) => a.facts);
    shown = proof(facts, new Map([[iri, name]])) ?? h("p", { class: "empty" }, t("facts.nothing"));
  } catch (err) {
    shown = h("p", { class: "bad" }, err.message);
  }
  if (mine !== asked) return;
  put(at, shown);
  at.scrollIntoView({ block: "nearest" });
}
