// Makes elements. Whatever it is given becomes text nodes, never markup.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

// Sets a text only where it differs, so that what is announced is announced once.
export function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function milliseconds(ms) {
  return ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2);
}
