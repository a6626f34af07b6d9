// Numbers as people read them.

/** 0.714 is 71 %; the space does not break. */
export function percent(share) {
  return `${Math.round(share * 100)}\u00a0%`;
}

export function count(number) {
  return number.toLocaleString("en");
}

export function lineCount(number) {
  return `${count(number)} ${number === 1 ? "line" : "lines"}`;
}

/** Characters as the service counts them: code points, not UTF-16 units. */
export function numCharacters(text) {
  let number = 0;
  for (const _character of text) number += 1;
  return number;
}
