// What outlives the page: in the browser, on the clipboard, or in a link, behind the #, which
// browsers never send.

import { element } from "./dom.js";

/** `area` is a name: reading window.localStorage may throw, too. */
export function recall(area, name) {
  try {
    return JSON.parse(window[area].getItem(name));
  } catch {
    return null; // not ours, or switched off
  }
}

export function keep(area, name, value) {
  try {
    window[area].setItem(name, JSON.stringify(value));
  } catch {
    // it lasts as long as the page
  }
}

/** Also on pages without HTTPS, where browsers hide their clipboard. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const before = document.activeElement;
    const area = element("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    before?.focus();
    if (!copied) throw new Error("the browser did not let the page copy");
  }
}

export function linkedState() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("text") && !given.has("source")) return null;
  return { source: "", target: "", text: "", ...Object.fromEntries(given) };
}

/** Puts a link to `state` into the address bar, without a step back, or takes it out. */
export function showLink(state) {
  const link = state ? `#${new URLSearchParams(state)}` : location.pathname + location.search;
  history.replaceState(null, "", link);
  return location.href;
}
