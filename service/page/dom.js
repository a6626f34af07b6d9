// What is on the page: elements, and numbers as people read them.

export const ui = new Proxy({}, { get: (_, id) => document.getElementById(id) });

/** Texts are set as text, never as markup. */
export const element = (name, properties) => Object.assign(document.createElement(name), properties);

/** 0.714 is 71 %; the space does not break. */
export function percent(share) {
  return `${Math.round(share * 100)}\u00a0%`;
}

/** 1,200, or 1 line, 2 lines. */
export function count(number, unit) {
  const written = number.toLocaleString("en");
  return unit ? `${written} ${unit}${number === 1 ? "" : "s"}` : written;
}

export function duration(seconds) {
  return seconds < 7200 ? `${Math.ceil(seconds / 60)} minutes` : `${Math.ceil(seconds / 3600)} hours`;
}

/** Characters as the service counts them: code points, not UTF-16 units. */
export function numCharacters(text) {
  return [...text].length;
}
