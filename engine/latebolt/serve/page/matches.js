// From matches of tokens, as the server gives them, to matches of words. Pure: no page, no server.

// A character of a script that writes no spaces, a number with its separators, or letters with inner apostrophes
// and hyphens.
const WORD =
  /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}]|\p{N}+(?:[.,]\p{N}+)+|[\p{L}\p{M}\p{N}_]+(?:['’-][\p{L}\p{M}\p{N}_]+)*/gu;
const EXCERPT = 600; // characters of a long text that are shown at first
const BEFORE = 80; // of them at least before the first match

// Words as [{start, end, text}], in UTF-16 units.
export function wordsOf(text) {
  return Array.from(text.matchAll(WORD), (found) => ({
    start: found.index,
    end: found.index + found[0].length,
    text: found[0],
  }));
}

// What each word of the query matched in a text: [{query, start, end, text, similarity, telling}], by start. `query` is
// the number of the word, and what is not `telling` says nothing of the hit. Markers and punctuation are left out; of
// several tokens of a pair of words the best counts.
export function linksOf(query, queryWords, text, matches) {
  const unitOfQuery = unitsOf(query);
  const unitOfText = unitsOf(text);
  const textWords = wordsOf(text);
  const best = new Map();
  for (const match of matches) {
    if (!match.query || !match.document) continue;
    const { similarity, telling = true } = match;
    const froms = wordsIn(queryWords, unitOfQuery(match.query.start), unitOfQuery(match.query.end));
    const tos = wordsIn(textWords, unitOfText(match.document.start), unitOfText(match.document.end));
    for (const [from, to] of pairsOf(froms, tos)) {
      const name = `${from} ${to}`;
      const known = best.get(name);
      if (known && known.similarity >= similarity) continue;
      best.set(name, { ...textWords[to], query: from, similarity, telling });
    }
  }
  return [...best.values()].sort((a, b) => a.start - b.start || b.similarity - a.similarity);
}

// How strongly a link is shaded, in [0, 1]: even words that have nothing in common reach a similarity of about 0.3.
export function strengthOf({ similarity, telling }) {
  if (!telling) return 0;
  return Math.min(1, Math.max(0, (similarity - 0.3) / 0.7)) ** 1.5;
}

// The part [start, end) of a text to show at first: all of a short one, else where it matched most.
export function excerptOf(text, links) {
  if (text.length <= 1.5 * EXCERPT) return [0, text.length];
  let bestStart = 0;
  let bestSum = -1;
  for (const { start } of links) {
    const end = start - BEFORE + EXCERPT;
    const shown = links.filter((each) => each.start >= start && each.end <= end);
    const sum = shown.reduce((all, each) => all + strengthOf(each), 0);
    if (sum > bestSum) [bestStart, bestSum] = [Math.max(0, start - BEFORE), sum];
  }
  if (bestStart > 0) {
    const space = text.indexOf(" ", bestStart);
    if (space >= 0 && space < bestStart + BEFORE) bestStart = space + 1;
  }
  let end = Math.min(text.length, bestStart + EXCERPT);
  const space = text.lastIndexOf(" ", end);
  if (end < text.length && space > bestStart + EXCERPT / 2) end = space;
  return [bestStart, end];
}

// The words, by their numbers, that have a character in [start, end). A token may be several characters of a script
// without spaces, each of which is a word here.
function wordsIn(words, start, end) {
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].end <= start) low = middle + 1;
    else high = middle;
  }
  const found = [];
  for (let i = low; i < words.length && words[i].start < end; i++) found.push(i);
  return found;
}

// One by one where there are as many, else each with each.
function pairsOf(froms, tos) {
  if (froms.length === tos.length) return froms.map((from, i) => [from, tos[i]]);
  return froms.flatMap((from) => tos.map((to) => [from, to]));
}

// The server counts code points, JavaScript UTF-16 units.
function unitsOf(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (place) => place;
  const units = [0];
  for (const character of text) units.push(units[units.length - 1] + character.length);
  return (place) => units[place];
}
