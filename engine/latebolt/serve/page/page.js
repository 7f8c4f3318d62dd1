// Wires the page: what is typed becomes a request, its answer becomes hits. Answers to what nobody asks any more
// are dropped.

import { ask, keepKey } from "./api.js";
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

byId("query").value = EXAMPLE_QUERY;
byId("passages").value = EXAMPLE_PASSAGES.join("\n\n");

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

async function run(more = false) {
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
  text: result.document.text,
  metadata: null,
  matches: result.matches,
});

function summary(request, stages, roundTrip) {
  if (!hits.length) return request.body.where ? "No hits among the documents of this filter." : "No hits.";
  const way = `${milliseconds(roundTrip)} ms`;
  if (!stages) return `${count(hits.length, "hit")} of ${count(request.texts.length, "candidate")} in ${way}`;
  const looked = (name) => stages.find((stage) => stage.name === name)?.documents;
  const candidates = looked("score words") ?? looked("rank by centroids") ?? looked("score exactly") ?? 0;
  const inside = milliseconds(stages.reduce((sum, stage) => sum + stage.ms, 0));
  const found = `${count(hits.length, "hit")} of ${count(candidates, "candidate")} in ${inside} ms`;
  return `${found}, ${way} with the way there and back`;
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

// The indexes there are, as choices; one that is gone while it is chosen stays until another is.
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
}

function showSource() {
  byId("own").hidden = Boolean(source());
  document.querySelectorAll(".index-only").forEach((field) => (field.hidden = !source()));
}

function countPassages() {
  tell(byId("passages-note"), count(passages().length, "passage"));
}

function later() {
  clearTimeout(typing);
  running.abort();
  typing = setTimeout(() => byId("query").value.trim() && run(), TYPING_MS);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
byId("query").addEventListener("input", later);
byId("where").addEventListener("change", () => run());
byId("k").addEventListener("input", later);
byId("mode").addEventListener("change", () => run());
byId("passages").addEventListener("input", () => {
  countPassages();
  later();
});
byId("source").addEventListener("change", () => {
  showSource();
  run();
});
byId("more").addEventListener("click", () => run(true));
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(byId("key").value.trim());
  complain("key", "");
  byId("key-form").hidden = true;
  server.look();
  if (byId("problem").textContent) run(); // it was refused for want of a key
});

showSource();
countPassages();
server.look();
