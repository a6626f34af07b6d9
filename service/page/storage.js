// What the browser remembers: nothing where storage is switched off.

/** `area` is a name: reading window.localStorage may throw, too. */
export function recall(area, name) {
  try {
    return window[area].getItem(name);
  } catch {
    return null;
  }
}

export function keep(area, name, value) {
  try {
    window[area].setItem(name, value);
  } catch {
    // it lasts as long as the page
  }
}
