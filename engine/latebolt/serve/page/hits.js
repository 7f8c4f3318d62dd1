// Draws hits with their matched words shaded, and narrows the shading to one word of the query.

import { byId, count, make, tell } from "./dom.js";
import { excerptOf, linksOf, strengthOf, wordsOf } from "./matches.js";

const HINT = "Point at a word of the query, or at a shaded one, to see what it matched.";

export class Hits {
  constructor() {
    this.list = byId("hits");
    this.words = byId("words");
    this.told = byId("told");
    this.pinned = null;
    this.clear();
    this.#listen();
  }

  clear() {
    this.query = "";
    this.queryWords = [];
    this.hits = [];
    this.marks = new Map(); // element -> its links
    this.list.replaceChildren();
    this.words.replaceChildren();
    byId("words-bar").hidden = true;
  }

  get length() {
    return this.hits.length;
  }

  get first() {
    return this.hits[0];
  }

  // hits: [{id, score, confidence, weak, text, metadata, matches}], best first.
  show(query, hits) {
    const pinnedWord = query === this.query ? this.pinned : null;
    const focused = this.words.contains(document.activeElement);
    this.clear();
    this.query = query;
    this.queryWords = wordsOf(query);
    this.words.append(...this.queryWords.map((word, i) => this.#wordButton(word, i)));
    byId("words-bar").hidden = !this.queryWords.length || !hits.length;
    this.pinned = pinnedWord;
    this.append(hits);
    if (focused) this.words.querySelector("button")?.focus();
  }

  append(hits) {
    const first = this.hits.length;
    const best = Math.max(hits[0]?.score ?? 0, this.hits[0]?.score ?? 0);
    hits.forEach((hit, i) => {
      const links = hit.text === null ? [] : linksOf(this.query, this.queryWords, hit.text, hit.matches || []);
      this.hits.push({ ...hit, links });
      this.list.append(this.#item(this.hits[first + i], first + i, best));
    });
    this.narrow(this.pinned);
    return this.list.children[first];
  }

  // Shade what one word of the query matched; everything for null.
  narrow(word) {
    for (const [element, links] of this.marks) {
      const taken = links.filter((link) => word === null || link.query === word);
      const strength = Math.max(0, ...taken.map(strengthOf));
      element.style.setProperty("--strength", strength.toFixed(3));
      element.classList.toggle("taken", word !== null && taken.length > 0);
    }
    this.#light(word === null ? null : [word]);
    this.hits.forEach((hit) => {
      const link = word === null ? null : bestOf(hit.links.filter((each) => each.query === word));
      tell(hit.own, link ? `${link.text} ${link.similarity.toFixed(2)}` : word === null ? "" : "no word");
    });
    tell(this.told, word === null ? HINT : this.#wordStory(word));
  }

  #wordStory(word) {
    const name = `“${this.queryWords[word].text}”`;
    const links = this.hits.map((hit) => bestOf(hit.links.filter((each) => each.query === word))).filter(Boolean);
    if (!links.length) return `${name} matched no word, only punctuation or markers.`;
    const best = bestOf(links);
    const all = count(this.hits.length, "hit");
    const where = links.length === this.hits.length ? "every hit" : `${links.length} of ${all}`;
    return `${name} matched a word in ${where}, best “${best.text}” with ${best.similarity.toFixed(2)}.`;
  }

  // The other way round: which words of the query took this one.
  #trace(links) {
    this.#light(links.map((link) => link.query));
    const takers = links.map((link) => `“${this.queryWords[link.query].text}” ${link.similarity.toFixed(2)}`);
    tell(this.told, `“${links[0].text}” was matched by ${takers.join(", ")}.`);
  }

  #light(words) {
    Array.from(this.words.children, (item, i) => {
      const [button] = item.children;
      button.classList.toggle("lit", words !== null && words.includes(i));
      button.classList.toggle("dim", words !== null && !words.includes(i));
      button.setAttribute("aria-pressed", String(this.pinned === i));
    });
  }

  #wordButton(word, i) {
    const button = make("button", { type: "button", dir: "auto", textContent: word.text });
    button.dataset.word = i;
    button.setAttribute("aria-pressed", "false");
    return make("li", {}, button);
  }

  #item(hit, i, best) {
    hit.own = make("span", { className: "own" });
    const bar = make("span", { className: "bar" }, make("span"));
    bar.setAttribute("aria-hidden", "true");
    bar.firstChild.style.width = `${best > 0 ? Math.max(0, (100 * hit.score) / best) : 0}%`;
    const score = make("span", { className: "score", title: "Score" }, hit.score.toFixed(3));
    const id = make("span", { className: "id", dir: "auto" }, hit.label);
    const meta = make("div", { className: "meta" }, score, bar, ...confidenceOf(hit), id, hit.own);
    const body = make("div", { className: "body" }, meta, ...this.#text(hit));
    for (const facts of [hit.place, hit.metadata]) {
      if (facts && Object.keys(facts).length) body.append(metadataOf(facts));
    }
    if (hit.links.length) body.append(this.#table(hit));
    const rank = make("span", { className: "rank" }, make("span", { className: "unseen" }, "Rank "), String(i + 1));
    return make("li", { tabIndex: -1 }, rank, body);
  }

  #text(hit) {
    if (hit.text === null) return [make("p", { className: "quiet" }, "No text is stored with this document.")];
    const [start, end] = excerptOf(hit.text, hit.links);
    const paragraph = make("p", { className: "text", dir: "auto" });
    const draw = (from, to) => {
      const [before, after] = [from > 0 ? "… " : "", to < hit.text.length ? " …" : ""];
      paragraph.replaceChildren(before, ...this.#shaded(hit, from, to), after);
    };
    draw(start, end);
    if (end - start === hit.text.length) return [paragraph];
    const whole = make("button", { type: "button", className: "plain" }, "Show the whole text");
    whole.addEventListener("click", () => {
      for (const mark of paragraph.querySelectorAll("mark")) this.marks.delete(mark);
      draw(0, hit.text.length);
      this.narrow(this.pinned);
      whole.remove();
      paragraph.tabIndex = -1;
      paragraph.focus();
    });
    return [paragraph, whole];
  }

  #shaded(hit, from, to) {
    const nodes = [];
    let place = from;
    for (const [start, links] of grouped(hit.links)) {
      if (start < from || links[0].end > to) continue;
      const mark = make("mark", {}, hit.text.slice(start, links[0].end));
      this.marks.set(mark, links);
      nodes.push(hit.text.slice(place, start), mark);
      place = links[0].end;
    }
    nodes.push(hit.text.slice(place, to));
    return nodes;
  }

  // The same as words and numbers, for keyboards and screen readers; filled when it is opened.
  #table(hit) {
    const details = make("details", {}, make("summary", {}, "Word by word"));
    details.addEventListener(
      "toggle",
      () => {
        const head = ["Query", "This text", "Similarity"].map((name) => make("th", { scope: "col" }, name));
        const rows = this.queryWords.map((word, i) => {
          const link = bestOf(hit.links.filter((each) => each.query === i));
          const cells = [word.text, link ? link.text : "–", link ? link.similarity.toFixed(3) : "–"];
          return make("tr", {}, ...cells.map((cell) => make("td", { dir: "auto" }, cell)));
        });
        details.append(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
      },
      { once: true },
    );
    return details;
  }

  #listen() {
    const wordOf = (event) => {
      const button = event.target.closest("button");
      return button ? Number(button.dataset.word) : null;
    };
    this.words.addEventListener("pointerover", (event) => this.narrow(wordOf(event) ?? this.pinned));
    this.words.addEventListener("pointerleave", () => this.narrow(this.pinned));
    this.words.addEventListener("focusin", (event) => {
      if (event.target.matches(":focus-visible")) this.narrow(wordOf(event));
    });
    this.words.addEventListener("focusout", () => this.narrow(this.pinned));
    this.words.addEventListener("click", (event) => {
      const word = wordOf(event);
      if (word === null) return;
      this.pinned = this.pinned === word ? null : word;
      this.narrow(this.pinned);
    });
    this.list.addEventListener("pointerover", (event) => {
      const links = this.marks.get(event.target.closest("mark"));
      if (links) this.#trace(links);
    });
    this.list.addEventListener("pointerout", (event) => {
      if (this.marks.has(event.target.closest("mark"))) this.narrow(this.pinned);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.pinned === null) return;
      this.pinned = null;
      this.narrow(null);
    });
  }
}

function confidenceOf(hit) {
  if (hit.confidence === undefined || hit.confidence === null) return [];
  const title = "How likely this answers the query, from 0 to 1";
  const shown = [make("span", { className: "confidence", title }, hit.confidence.toFixed(2))];
  return hit.weak ? [...shown, make("span", { className: "weak" }, "weak match")] : shown;
}

function bestOf(links) {
  return links.reduce((best, link) => (best && best.similarity >= link.similarity ? best : link), null);
}

function grouped(links) {
  const groups = new Map();
  for (const link of links) groups.set(link.start, [...(groups.get(link.start) || []), link]);
  return groups;
}

function metadataOf(metadata) {
  const list = make("dl", { className: "metadata" });
  for (const [name, value] of Object.entries(metadata)) {
    const shown = typeof value === "string" ? value : JSON.stringify(value);
    list.append(make("div", {}, make("dt", { dir: "auto" }, name), make("dd", { dir: "auto" }, shown)));
  }
  return list;
}
