// Asks the server, and turns whatever goes wrong into a sentence and the field it belongs to.

const KEY = "latebolt-key";

export class Refusal extends Error {
  // fields: [{field, message}] of a request that does not fit; status 0: the server could not be reached.
  constructor(message, status = 0, fields = []) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

export function hasKey() {
  return Boolean(sessionStorage.getItem(KEY));
}

export function keepKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

// GET, or POST where there is a body. Aborting the signal raises an AbortError, which is no refusal.
export async function ask(path, body, signal) {
  const options = { signal };
  if (body !== undefined) {
    const headers = { "Content-Type": "application/json" };
    Object.assign(options, { method: "POST", headers, body: JSON.stringify(body) });
  }
  return send(path, options, (response) => response.json());
}

// GET of what is no JSON.
export async function askText(path) {
  return send(path, {}, (response) => (response.ok ? response.text() : response.json()));
}

async function send(path, options, read) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response, content;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    content = await read(response);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response) throw new Refusal(`The server answered ${response.status}, and not in JSON.`, response.status);
    throw new Refusal("The server does not answer. Is it running?");
  }
  if (!response.ok) throw refusal(response, content);
  return content;
}

function refusal(response, content) {
  let message = sentence(content.detail || `the server answered ${response.status}.`);
  if (response.status === 401) {
    message = hasKey() ? "The server does not know this key." : "The server wants a key.";
  }
  const fields = (content.errors || []).map((each) => ({ field: each.field, message: sentence(each.message) }));
  return new Refusal(message, response.status, fields);
}

function sentence(text) {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}
