// Helpers to find and make elements and to format numbers.

export const ui = new Proxy({}, { get: (_, id) => document.getElementById(id) });

/** A new element with these properties; texts are set as text, never as markup. */
export const element = (name, properties) => Object.assign(document.createElement(name), properties);

/** 0.714 -> 71 %, with a space that does not break. */
export function percent(share) {
  return `${Math.round(share * 100)}\u00a0%`;
}

/** 1200 -> 1,200; with a unit: 1 line, 2 lines. */
export function count(number, unit) {
  const written = number.toLocaleString("en");
  return unit ? `${written} ${unit}${number === 1 ? "" : "s"}` : written;
}

export function duration(seconds) {
  return seconds < 7200 ? `${Math.ceil(seconds / 60)} minutes` : `${Math.ceil(seconds / 3600)} hours`;
}

/** The length as the service counts it: in code points, not UTF-16 units. */
export function numCharacters(text) {
  return [...text].length;
}
