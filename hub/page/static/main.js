// Starts the page, holds what is known about the fleet, and draws a section
// again when what it shows changed.

import { ApiError, get, login } from "./api.js";
import { $, h, put, toast } from "./dom.js";
import { live } from "./live.js";
import { clock, loadWords, number, retick, t } from "./words.js";
import { device, drawFleet } from "./fleet.js";
import { claimed, startEnrol } from "./enrol.js";
import { drawRollouts } from "./rollouts.js";
import { drawModels, fetchReports } from "./models.js";
import { drawGraphs, startFacts } from "./facts.js";
import { addResult, explained, fetchResults, learn, result, startResults } from "./results.js";
import { addPoint, drawCharts, fetchPoints, perMinute, startCharts } from "./charts.js";

const known = { devices: new Map(), rollouts: new Map(), models: null, graphs: [], summary: null };

// soon calls draw once for any number of changes within a short time.
function soon(draw, wait = 100) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      draw();
    }, wait);
  };
}

const redraw = {
  fleet: soon(() => drawFleet([...known.devices.values()])),
  rollouts: soon(() => drawRollouts([...known.rollouts.values()])),
  tiles: soon(drawTiles, 250),
};

// again fetches one part soon; a failure shows by the stream's own state.
const again = (part) => soon(() => part().catch(() => {}), 400);

const deviceKey = (d) => `${d.tenant}/${d.name}`;

async function devices() {
  const all = (await get("devices")).devices;
  known.devices = new Map(all.map((d) => [deviceKey(d), d]));
  for (const key of known.devices.keys()) learn("device", key);
  redraw.fleet();
  redraw.tiles();
}

async function rollouts() {
  known.rollouts = new Map((await get("rollouts")).rollouts.map((r) => [r.id, r]));
  redraw.rollouts();
}

async function models() {
  known.models = (await get("models")).models;
  drawModels(known.models);
  fetchReports(known.models);
}

async function graphs() {
  known.graphs = (await get("facts")).graphs;
  drawGraphs(known.graphs);
}

async function summary() {
  learnSummary(await get("summary"));
}

// learnSummary takes over the figures, and asks for what they show to be new.
function learnSummary(s) {
  known.summary = s;
  redraw.tiles();
  if (known.models && s.models !== known.models.length) soonModels();
  if (known.devices.size !== s.devices) soonDevices();
}

async function points() {
  await fetchPoints();
  drawCharts();
}

const soonDevices = again(devices);
const soonRollouts = again(rollouts);
const soonModels = again(models);
const soonGraphs = again(graphs);

/** refresh asks for everything; the first question decides whether the hub answers. */
async function refresh() {
  await summary();
  enter();
  const done = await Promise.allSettled([devices(), rollouts(), models(), graphs(), fetchResults(), points()]);
  const failed = done.find((d) => d.status === "rejected");
  if (failed && !(failed.reason instanceof ApiError)) throw failed.reason;
  if (failed) toast(failed.reason.message);
}

function onEvent(kind, data) {
  switch (kind) {
    case "result": {
      const r = result(data);
      addResult(r);
      addPoint(r);
      known.summary.results.results++;
      if (r.error) known.summary.results.errors++;
      redraw.fleet();
      redraw.tiles();
      return;
    }
    case "explain":
      explained(result(data));
      return;
    case "device":
      known.devices.set(deviceKey(data), data);
      learn("device", deviceKey(data));
      redraw.fleet();
      redraw.tiles();
      return;
    case "claim":
      claimed(data);
      return;
    case "rollout":
      known.rollouts.set(data.id, data);
      redraw.rollouts();
      return;
    case "summary":
      learnSummary(data);
      return;
    case "report":
      soonDevices();
      soonRollouts();
      return;
    case "facts":
      soonGraphs();
      return;
    case "lagged":
      refresh().catch(() => {});
  }
}

function drawTiles() {
  const all = [...known.devices.values()].map(device);
  const sum = (key) => all.reduce((n, d) => n + d[key], 0);
  const counts = known.summary?.results ?? {};
  const tile = (key, value, mark) => h("div", {}, h("dt", {}, t("tiles." + key)), h("dd", { class: mark || null }, value));
  put($("tiles"),
    tile("online", `${number(all.filter((d) => d.online).length)}/${number(all.length)}`, all.some((d) => !d.online) && "warn"),
    tile("results", number(counts.results)),
    tile("rate", perMinute() < 10 ? perMinute().toFixed(1) : number(Math.round(perMinute()))),
    tile("waiting", number(sum("waiting"))),
    tile("dropped", number(Math.max(counts.dropped ?? 0, sum("dropped"))), (counts.dropped ?? 0) + sum("dropped") > 0 && "bad"),
    tile("errors", number(counts.errors ?? 0), counts.errors > 0 && "bad"));
}

// The connection, at the top for all to see.

let link = { state: "connecting", since: 0, retryAt: 0 };

function onState(state, since, retryAt) {
  link = { state, since, retryAt };
  drawLink();
}

function drawLink() {
  $("link").dataset.state = link.state;
  document.documentElement.dataset.link = link.state;
  const text = t("link." + link.state);
  if ($("link-text").textContent !== text) put($("link-text"), text);
  const banner = $("banner");
  const show = link.state === "down" && !$("main").hidden;
  if (show && banner.hidden) {
    put(banner, h("span", {}, t("link.lost", { time: clock(link.since) })), " ",
      h("button", { type: "button", onclick: () => stream.now() }, t("link.retry")));
  }
  banner.hidden = !show;
}

const stream = live({ refresh, ask: summary, onEvent, onState, onLogin: () => askToken("") });

// Entering.

function enter() {
  if (!$("main").hidden) return;
  $("login").hidden = true;
  $("main").hidden = false;
  $("tiles").hidden = false;
  startResults(() => fetchResults().catch((err) => toast(err.message)));
  startFacts();
  startCharts();
}

function askToken(error) {
  $("main").hidden = true;
  $("tiles").hidden = true;
  $("banner").hidden = true;
  $("login").hidden = false;
  document.documentElement.dataset.link = $("link").dataset.state = "login";
  put($("link-text"), t("link.login"));
  put($("login-error"), error);
  $("token").focus();
}

async function tryToken(token) {
  try {
    await login(token.trim());
  } catch (err) {
    askToken(err.status === 401 || err.status === 403 ? t("login.wrong") : err.message);
    return;
  }
  $("token").value = "";
  stream.start();
}

// fragmentToken takes the token out of the address, so that it is neither in
// the history nor in a copied link.
function fragmentToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

function startTheme() {
  const button = $("theme");
  const order = ["auto", "light", "dark"];
  const read = () => {
    try {
      return localStorage.getItem("theme") ?? "auto";
    } catch {
      return "auto"; // storage is forbidden: the choice lasts for this visit
    }
  };
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    put(button, { auto: "◐", light: "☀", dark: "☾" }[theme]);
    button.title = t("theme." + theme);
    button.setAttribute("aria-label", t("theme." + theme));
    drawCharts();
  };
  show(order.includes(read()) ? read() : "auto");
  button.addEventListener("click", () => {
    const theme = order[(order.indexOf(document.documentElement.dataset.theme) + 1) % order.length];
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // see above
    }
    show(theme);
  });
}

await loadWords();
startTheme();
startEnrol();
drawLink();
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  tryToken($("token").value);
});
addEventListener("hashchange", () => {
  const token = fragmentToken();
  if (token) tryToken(token);
});
setInterval(retick, 1000);
const token = fragmentToken();
if (token) tryToken(token);
else stream.start();
