// Wires the page: what is typed becomes a request, its answer becomes hits. Answers to what nobody asks any more
// are dropped.

import { fromAddress, toAddress } from "./address.js";
import { ask, askText, hasKey, keepKey } from "./api.js";
import { byId, count, make, milliseconds, tell } from "./dom.js";
import { Hits } from "./hits.js";
import { Server } from "./server.js";

const AT_A_TIME = 20; // hits that are explained and drawn with one request
const TYPING_MS = 180; // of silence until what was typed is asked
const PATIENCE_MS = 250; // until a search that runs is worth a word
const MOST = 1000; // hits, as the server has it

const EXAMPLE_QUERY = "What is the population of Berlin?";
const EXAMPLE_PASSAGES = [
  "The population of Berlin grew from 1.6 to 4.3 million within two decades around 1900.",
  "Mount Berlin is a glacier-covered volcano in Antarctica.",
  "Berlin is the capital of Germany and its largest city, with 3.85 million inhabitants.",
  "The urban area of Berlin has about 4.5 million residents.",
  "Irving Berlin wrote the words and the music of more than a thousand songs.",
  "Berlin is a town in Connecticut in which 20,175 people live.",
  "Population as of 31 December 2023 by nationality and federal state.",
  "Babylon Berlin is a German television series set in the 1920s.",
];

const form = byId("search");
const hits = new Hits();
const server = new Server(offer, wantKey);
let running = new AbortController();
let typing = 0;
let isTyped = false; // what was asked last was typed, and not yet confirmed
let isChosen = false; // where to search: by the address, by somebody, or by us as soon as the indexes are known

const source = () => byId("source").value;

function passages() {
  return byId("passages").value.split(/\n\s*\n/).map((text) => text.trim()).filter(Boolean);
}

// What to ask, or null where a field does not fit, which is then said beside it.
function asked(number) {
  const query = byId("query").value;
  const k = Number(byId("k").value);
  const texts = passages();
  const faults = {
    query: query.trim() ? "" : "Type at least one word.",
    k: Number.isInteger(k) && k >= 1 && k <= MOST ? "" : `A whole number from 1 to ${MOST}.`,
    passages: source() || texts.length ? "" : "Give at least one passage.",
  };
  Object.entries(faults).forEach(([field, message]) => complain(field, message));
  if (Object.values(faults).some(Boolean)) return null;
  const n = Math.min(k, number);
  if (!source()) {
    const body = { query, documents: texts, top_n: n, explain: true };
    return { path: "v1/rerank", body, query, n, k, texts };
  }
  const body = { query, k: n, mode: byId("mode").value, explain: true };
  const where = byId("where").value.trim();
  if (where) body.where = where;
  return { path: `v1/indexes/${encodeURIComponent(source())}/search`, body, query, n, k };
}

// typed: by itself, while somebody types, which is one entry in the history. followed: the address says it already.
async function run({ more = false, typed = false, followed = false } = {}) {
  isChosen = true;
  clearTimeout(typing);
  running.abort();
  more &&= byId("query").value === hits.query; // else it has been typed on since
  const mine = (running = new AbortController());
  const request = asked(more ? hits.length + AT_A_TIME : AT_A_TIME);
  ["where", "k", "query", "passages"].forEach((field) => request && complain(field, ""));
  if (!request) {
    settle();
    return;
  }
  toAddress(fields(), !followed && !(typed && isTyped));
  isTyped = typed;
  const slow = setTimeout(() => tell(byId("summary"), "Searching."), PATIENCE_MS);
  byId("results").setAttribute("aria-busy", "true");
  const start = performance.now();
  try {
    const answer = await ask(request.path, request.body, mine.signal);
    if (mine !== running) return;
    clearTimeout(slow);
    settle();
    draw(request, answer, performance.now() - start, more);
  } catch (error) {
    if (mine !== running || error.name === "AbortError") return;
    clearTimeout(slow);
    settle();
    refuse(error, more);
  } finally {
    clearTimeout(slow);
  }
}

function settle() {
  byId("results").setAttribute("aria-busy", "false");
  tell(byId("problem"), "");
}

function draw(request, answer, roundTrip, more) {
  const found = answer.hits ? answer.hits.map(fromIndex) : answer.results.map(fromRerank);
  if (more) {
    const next = hits.append(found.slice(hits.length));
    next?.focus();
  } else {
    hits.show(request.query, found);
  }
  byId("more").hidden = found.length < request.n || request.n >= request.k || found.length === request.texts?.length;
  drawStages(answer.stages);
  tell(byId("summary"), summary(request, answer.stages, roundTrip));
  server.soon();
}

const fromIndex = (hit) => ({ ...hit, label: hit.id });

const fromRerank = (result) => ({
  score: result.relevance_score,
  label: `passage ${result.index + 1}`,
  confidence: result.confidence,
  weak: result.weak,
  text: result.document.text,
  metadata: null,
  matches: result.matches,
});

function summary(request, stages, roundTrip) {
  if (!hits.length) return request.body.where ? "No hits among the documents of this filter." : "No hits.";
  const weak = hits.first.weak ? ". The best match is weak: the answer may not be here." : "";
  const way = `${milliseconds(roundTrip)} ms`;
  if (!stages) return `${count(hits.length, "hit")} of ${count(request.texts.length, "candidate")} in ${way}${weak}`;
  const looked = (name) => stages.find((stage) => stage.name === name)?.documents;
  const candidates = looked("score words") ?? looked("rank by centroids") ?? looked("score exactly") ?? 0;
  const inside = milliseconds(stages.reduce((sum, stage) => sum + stage.ms, 0));
  const found = `${count(hits.length, "hit")} of ${count(candidates, "candidate")} in ${inside} ms`;
  return `${found}, ${way} with the way there and back${weak}`;
}

function drawStages(stages) {
  byId("stages").hidden = !stages;
  const rows = (stages || []).map(({ name, ms, documents }) => {
    const cells = [milliseconds(ms), documents ? documents.toLocaleString("en") : "–"];
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell)));
  });
  byId("stages").querySelector("tbody").replaceChildren(...rows);
}

// Says what is wrong beside the field it is about; otherwise above the hits, of which those stay to which more
// were to come.
function refuse(error, more) {
  if (!more) {
    hits.clear();
    byId("more").hidden = byId("stages").hidden = true;
  }
  tell(byId("summary"), "");
  if (error.status === 401) wantKey(error);
  const places = { query: "query", where: "where", k: "k", documents: "passages" };
  const placed = error.fields.filter(({ field }) => places[field.split(".")[0]]);
  placed.forEach(({ field, message }) => complain(places[field.split(".")[0]], message));
  if (!placed.length) tell(byId("problem"), error.message);
}

function complain(field, message) {
  tell(byId(`${field}-error`), message);
  if (message) byId(field).setAttribute("aria-invalid", "true");
  else byId(field).removeAttribute("aria-invalid");
}

function wantKey(error) {
  byId("key-form").hidden = false;
  complain("key", error.message);
}

// The indexes there are, as choices; one that is gone while it is chosen stays until another is. The first of them
// is chosen where nobody has chosen anything.
function offer(indexes) {
  const select = byId("source");
  const names = indexes.map((index) => index.name);
  if (source() && !names.includes(source())) names.push(source());
  const present = Array.from(select.options, (option) => option.value).slice(1);
  if (names.join("\n") !== present.join("\n")) {
    const chosen = source();
    select.replaceChildren(select.options[0], ...names.map((name) => make("option", { value: name }, `Index ${name}`)));
    select.value = chosen;
  }
  tell(byId("source-note"), names.length ? "" : "This server has no index yet.");
  if (!isChosen && names.length) {
    fill({ index: names[0], q: byId("query").value === EXAMPLE_QUERY ? "" : byId("query").value });
  }
  isChosen = true;
}

// What the address is made of.
function fields() {
  const value = (id) => byId(id).value;
  return { index: source(), q: value("query"), mode: value("mode"), where: value("where"), k: value("k") };
}

// Puts into the fields what an address says, or what is said of it.
function fill({ index, q, mode = "late", where = "", k = "10" }) {
  const select = byId("source");
  if (!Array.from(select.options).some((option) => option.value === index)) {
    select.append(make("option", { value: index }, `Index ${index}`));
  }
  select.value = index;
  Object.entries({ query: q, mode, where, k }).forEach(([id, value]) => (byId(id).value = value));
  byId("mode").value ||= "late"; // it is none that there is
  showSource();
}

// Shows what the address says: at the start, and when somebody goes back or on.
function follow() {
  clearTimeout(typing);
  running.abort();
  const said = fromAddress();
  const isAsked = Boolean(said?.q.trim());
  [isChosen, isTyped] = [said !== null, false];
  if (!isAsked) {
    hits.clear();
    byId("more").hidden = byId("stages").hidden = true;
    settle();
  }
  fill(said ?? { index: "", q: EXAMPLE_QUERY });
  server.look();
  if (isAsked) run({ followed: true });
}

function showSource() {
  byId("own").hidden = Boolean(source());
  document.querySelectorAll(".index-only").forEach((field) => (field.hidden = !source()));
  const rank = "Press Search to rank the passages above by the query.";
  if (!hits.length) tell(byId("summary"), source() ? `Ask index ${source()} something.` : rank);
}

function countPassages() {
  tell(byId("passages-note"), count(passages().length, "passage"));
}

function later() {
  clearTimeout(typing);
  running.abort();
  typing = setTimeout(() => byId("query").value.trim() && run({ typed: true }), TYPING_MS);
}

// After a change of what is asked; a query that is still to be typed is no fault.
function again() {
  if (byId("query").value.trim()) run();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
byId("query").addEventListener("input", later);
byId("where").addEventListener("change", again);
byId("k").addEventListener("input", later);
byId("mode").addEventListener("change", again);
byId("passages").addEventListener("input", () => {
  countPassages();
  later();
});
byId("source").addEventListener("change", () => {
  isChosen = true;
  showSource();
  again();
});
byId("more").addEventListener("click", () => run({ more: true }));
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(byId("key").value.trim());
  complain("key", "");
  byId("key-form").hidden = true;
  server.look();
  if (byId("problem").textContent) run(); // it was refused for want of a key
});

// A link of a browser sends no key.
document.querySelector('[href="metrics"]').addEventListener("click", async (event) => {
  const elsewhere = event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
  if (elsewhere || (!hasKey() && byId("key-form").hidden)) return;
  event.preventDefault();
  try {
    const figures = new Blob([await askText("metrics")], { type: "text/plain; charset=utf-8" });
    location.assign(URL.createObjectURL(figures));
  } catch (error) {
    if (error.status === 401) wantKey(error);
    else tell(byId("problem"), error.message);
  }
});
// Its own jump would take the place of what the address says.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("results").focus();
});
window.addEventListener("popstate", follow);

byId("passages").value = EXAMPLE_PASSAGES.join("\n\n");
countPassages();
follow();
