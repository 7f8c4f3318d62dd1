// What is asked, in the address: a link to it shows the same, and the way back leads to what was asked before.
// It stands behind the #, which browsers keep to themselves: no server and no proxy logs what people look for.

const USUAL = { index: "", q: "", mode: "late", where: "", k: "10" };

// {index, q, mode, where, k} as texts; null where the address says nothing of a search.
export function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  if (!said.has("index") && !said.has("q")) return null;
  return Object.fromEntries(Object.entries(USUAL).map(([name, usual]) => [name, said.get(name) ?? usual]));
}

// isNew: as an entry of its own in the history, instead of the one that is shown.
export function toAddress(asked, isNew) {
  const names = Object.keys(USUAL).filter((name) => name === "index" || asked[name] !== USUAL[name]);
  const hash = `#${new URLSearchParams(names.map((name) => [name, asked[name]]))}`;
  if (hash !== location.hash) history[isNew ? "pushState" : "replaceState"](null, "", hash);
}
