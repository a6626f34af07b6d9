// The API key: a field once the service wants one. It is kept as long as the tab, and in no link.

import { ui } from "./dom.js";
import { keep, recall } from "./memory.js";

const form = ui["key-form"];
let key = recall("sessionStorage", "api-key") ?? "";

export function currentKey() {
  return key;
}

export function askForKey() {
  form.hidden = false;
}

form.onsubmit = (event) => {
  event.preventDefault();
  key = form.elements.key.value.trim();
  form.reset();
  form.hidden = true;
  keep("sessionStorage", "api-key", key);
  dispatchEvent(new Event("key")); // what was refused is tried again
};
