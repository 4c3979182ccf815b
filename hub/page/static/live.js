// What the hub says as it happens. The states a person sees:
//
//	connecting --open--> live --error--> down --the hub answers--> polling
//	               ^                      |                          |
//	               +----- open -----------+------- open -------------+
//
// down: requests fail. polling: requests work, the stream of events does not
// (a proxy may hold it back), so everything is asked for again every few
// seconds. Each try begins with a request, because only its answer tells a
// session that ended (401) from a hub that is not there.

import { ApiError } from "./api.js";

const kinds = ["device", "result", "explain", "report", "rollout", "facts", "claim", "summary", "lagged"];
const silentMillis = 20000; // no event for so long: ask whether the hub is still there

/**
 * live makes it. refresh() must fetch all that the page shows, and ask() a
 * little; both reject when the hub does not answer. onEvent(kind, data) gets each event;
 * onState(state, since, retryAt) each change; onLogin() is called when the
 * session is over, and nothing more happens until start() is called again.
 */
export function live({ refresh, ask, onEvent, onState, onLogin }) {
  let source, timer, watch, running = false;
  let state = "connecting", since = Date.now(), tries = 0, heard = 0;

  function become(next, retryAt = 0) {
    if (next !== state) since = Date.now();
    state = next;
    onState(state, since, retryAt);
  }

  function open() {
    source?.close();
    const mine = new EventSource("/v1/events");
    source = mine;
    mine.onopen = () => {
      heard = Date.now();
      const first = tries === 0 && state === "connecting";
      tries = 0;
      become("live");
      if (!first) refresh().catch(() => lost());
    };
    mine.onerror = () => { if (source === mine) lost(); };
    for (const kind of kinds) {
      mine.addEventListener(kind, (event) => {
        heard = Date.now();
        let data;
        try {
          data = JSON.parse(event.data);
        } catch {
          return; // not of our protocol; the next refresh shows what it meant
        }
        onEvent(kind, data);
      });
    }
  }

  function lost() {
    source?.close();
    source = null;
    if (!running) return;
    tries++;
    const most = state === "polling" ? 5000 : 15000;
    const wait = Math.min(most, 500 * 2 ** Math.min(tries, 6)) * (0.75 + Math.random() / 2);
    become(state === "polling" ? "polling" : "down", Date.now() + wait);
    clearTimeout(timer);
    timer = setTimeout(again, wait);
  }

  async function again() {
    clearTimeout(timer);
    if (!running) return;
    try {
      await refresh();
    } catch (err) {
      if (err instanceof ApiError && (err.status === 401 || err.status === 403)) {
        stop();
        onLogin();
        return;
      }
      if (state === "polling") state = "down";
      lost();
      return;
    }
    if (state !== "connecting") become("polling");
    open();
  }

  function look() {
    if (!running || state !== "live" || Date.now() - heard < silentMillis) return;
    heard = Date.now();
    ask().catch(() => lost());
  }

  function stop() {
    running = false;
    clearTimeout(timer);
    clearInterval(watch);
    source?.close();
    source = null;
  }

  function start() {
    stop();
    running = true;
    tries = 0;
    become("connecting");
    watch = setInterval(look, 5000);
    return again();
  }

  const now = () => { if (running && state !== "live" && state !== "connecting") again(); };
  window.addEventListener("online", now);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) now(); });
  return { start, now };
}
