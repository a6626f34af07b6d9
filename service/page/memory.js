// Browser storage, the clipboard, and links whose state stands after the #, which browsers never
// send to a server.

import { element } from "./dom.js";

/** `area` is a name, because even reading window.localStorage may throw. */
export function recall(area, name) {
  try {
    return JSON.parse(window[area].getItem(name));
  } catch {
    return null; // storage is switched off, or holds no JSON
  }
}

export function keep(area, name, value) {
  try {
    window[area].setItem(name, JSON.stringify(value));
  } catch {
    // storage is switched off: the value is lost with the page
  }
}

/** Copies `text`, also on pages without HTTPS, where navigator.clipboard is missing. */
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

/** Puts `state` (null: nothing) after the # in the address bar, without an entry in the history. */
export function showLink(state) {
  const link = state ? `#${new URLSearchParams(state)}` : location.pathname + location.search;
  history.replaceState(null, "", link);
  return location.href;
}
