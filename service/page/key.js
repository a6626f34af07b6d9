// The API key: a field once the service wants one. It is kept as long as the tab, and in no link.

import { ui } from "./dom.js";
import { keep, recall } from "./memory.js";

const form = ui["key-form"];
let key = recall("sessionStorage", "api-key") ?? "";
let isNew = false;

export function currentKey() {
  return key;
}

/** Back to the field from where it was just entered, if it was refused. */
export function askForKey(isRefused) {
  form.hidden = false;
  if (isNew && isRefused) form.elements.key.focus();
  isNew = false;
}

form.onsubmit = (event) => {
  event.preventDefault();
  key = form.elements.key.value.trim();
  form.reset();
  form.hidden = isNew = true;
  keep("sessionStorage", "api-key", key);
  dispatchEvent(new Event("key")); // what was refused is tried again
};
