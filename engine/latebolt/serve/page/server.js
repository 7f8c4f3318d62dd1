// The panel about the server: what it serves and how it does, asked for again every few seconds.

import { ask } from "./api.js";
import { byId, count, make, milliseconds, tell } from "./dom.js";

const EVERY_MS = 4000;
const SOON_MS = 400;
const KINDS = { search: "Search", rerank: "Rerank", vectors: "Token vectors", documents: "Additions" };

export class Server {
  // onIndexes: told the indexes after each look; onRefused: told that a key is missing or wrong.
  constructor(onIndexes, onRefused) {
    this.onIndexes = onIndexes;
    this.onRefused = onRefused;
    this.seen = null;
    this.timer = 0;
    this.turn = 0;
    document.addEventListener("visibilitychange", () => this.look());
  }

  // Look in a moment: something has just been asked.
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), SOON_MS);
  }

  async look() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    const turn = ++this.turn; // a later look makes this one's answers stale
    let again = EVERY_MS;
    try {
      const figures = await ask("metrics.json");
      const models = await ask("v1/models");
      const listed = (await ask("v1/indexes")).data;
      const indexes = listed.filter((index) => index.state === "ready");
      if (turn !== this.turn) return;
      this.#draw(models.data[0], figures, indexes);
      this.#indexes(listed);
      this.onIndexes(indexes);
      this.seen = new Date();
      tell(byId("server-state"), "");
    } catch (error) {
      if (turn !== this.turn) return;
      const since = this.seen ? ` Figures are of ${this.seen.toLocaleTimeString()}.` : "";
      tell(byId("server-state"), error.message + since);
      if (error.status === 401) {
        this.onRefused(error);
        return; // asks again when there is another key
      }
      if (error.status === 503) again = 1000;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), again);
  }

  #draw(model, figures, indexes) {
    tell(byId("model"), `${model.id}, ${model.precision}`);
    const documents = indexes.reduce((sum, index) => sum + index.documents, 0);
    const waiting = figures.queue_texts;
    const asked = figures.cache_hits + figures.cache_misses;
    const errors = Object.entries(figures.errors).map(([code, number]) => `${code} ${number.toLocaleString("en")}`);
    this.#facts({
      Model: model.id,
      Precision: model.precision,
      Dimensions: model.dimensions.join(", "),
      Documents: `${documents.toLocaleString("en")} in ${count(indexes.length, "index", "indexes")}`,
      "In progress": count(figures.in_flight, "request"),
      Queue: waiting ? `${count(waiting, "text")}, ${count(figures.queue_tokens, "token")}` : "empty",
      "Cache hits": asked ? `${Math.round((100 * figures.cache_hits) / asked)} % of texts` : "no texts yet",
      Errors: errors.length ? errors.join(", ") : "none",
    });
    this.#requests(figures.requests);
  }

  #facts(facts) {
    const list = byId("facts");
    if (!list.children.length) {
      for (const name of Object.keys(facts)) list.append(make("div", {}, make("dt", {}, name), make("dd")));
    }
    Object.values(facts).forEach((value, i) => tell(list.children[i].lastChild, value));
  }

  #requests(kinds) {
    byId("requests").hidden = false;
    const time = (ms) => (ms === null ? "–" : milliseconds(ms));
    const rows = Object.entries(kinds).map(([kind, { requests, p50_ms, p95_ms }]) => {
      const cells = [requests.toLocaleString("en"), time(p50_ms), time(p95_ms)];
      const name = make("th", { scope: "row" }, KINDS[kind]);
      return make("tr", {}, name, ...cells.map((cell) => make("td", {}, cell)));
    });
    byId("requests").tBodies[0].replaceChildren(...rows);
  }

  #indexes(indexes) {
    const items = indexes.map((index) => {
      const facts =
        index.state === "ready"
          ? `${count(index.documents, "document")}, ${index.dimensions} × ${index.bits} bit`
          : `cannot be used: ${index.detail}`;
      return make("li", {}, make("strong", {}, index.name), " ", make("span", { className: "quiet" }, facts));
    });
    const none = make("p", { className: "quiet" }, "None yet. POST /v1/indexes makes one.");
    byId("indexes").replaceChildren(items.length ? make("ul", {}, ...items) : none);
  }
}
