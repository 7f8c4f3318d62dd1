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

// What each word of the query matched in a text: [{query, start, end, text, similarity}], by start. `query` is the
// number of the word. Markers and punctuation are left out; of several tokens of a pair of words the best counts.
export function linksOf(query, queryWords, text, matches) {
  const unitOfQuery = unitsOf(query);
  const unitOfText = unitsOf(text);
  const textWords = wordsOf(text);
  const best = new Map();
  for (const match of matches) {
    if (!match.query || !match.document) continue;
    const from = wordAt(queryWords, unitOfQuery(match.query.start));
    const to = wordAt(textWords, unitOfText(match.document.start));
    if (from < 0 || to < 0) continue;
    const name = `${from} ${to}`;
    const known = best.get(name);
    if (known && known.similarity >= match.similarity) continue;
    best.set(name, { ...textWords[to], query: from, similarity: match.similarity });
  }
  return [...best.values()].sort((a, b) => a.start - b.start || b.similarity - a.similarity);
}

// How strongly a similarity is shaded, in [0, 1]: even words that have nothing in common reach about 0.3.
export function strengthOf(similarity) {
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
    const sum = shown.reduce((all, each) => all + strengthOf(each.similarity), 0);
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

function wordAt(words, place) {
  let low = 0;
  let high = words.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (words[middle].end <= place) low = middle + 1;
    else if (words[middle].start > place) high = middle - 1;
    else return middle;
  }
  return -1;
}

// The server counts code points, JavaScript UTF-16 units.
function unitsOf(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (place) => place;
  const units = [0];
  for (const character of text) units.push(units[units.length - 1] + character.length);
  return (place) => units[place];
}
