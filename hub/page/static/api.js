// Requests to the hub. The session is an HttpOnly cookie, which the browser
// adds by itself; the token is sent once and kept nowhere.

let skew = 0;

/** hubNow is the hub's clock, in ms since 1970, to about a second. */
export const hubNow = () => Date.now() + skew;

/** ApiError is an answer that is not 2xx, with the hub's own words. */
export class ApiError extends Error {
  constructor(status, text, hint) {
    super(hint ? `${text} (${hint})` : text);
    this.status = status;
  }
}

async function request(method, path, data) {
  const options = { method, credentials: "same-origin", headers: { Accept: "application/json" } };
  if (data !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(data);
  }
  options.signal = AbortSignal.timeout(15000);
  const response = await fetch(path, options);
  const date = Date.parse(response.headers.get("Date") ?? "");
  // The header has whole seconds: correct only what cannot be rounding.
  if (date && Math.abs(date + 500 - Date.now() - skew) > 2000) skew = date + 500 - Date.now();
  const text = await response.text();
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    if (response.ok) throw new ApiError(response.status, `${path}: the answer is not JSON`);
  }
  if (!response.ok) {
    throw new ApiError(response.status, answer?.error ?? (text.trim().slice(0, 300) || response.statusText), answer?.hint);
  }
  return answer;
}

/** get asks for a path; args become the query, empty ones are left out. */
export function get(path, args = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(args)) if (value !== "" && value !== undefined && value !== null) query.set(key, value);
  const text = query.toString();
  return request("GET", "/v1/" + path + (text ? "?" + text : ""));
}

export const post = (path, data = {}) => request("POST", "/v1/" + path, data);

/** login trades a token for the session cookie. */
export const login = (token) => post("session", { token });
