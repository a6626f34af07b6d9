// The API key: the field to enter it, shown once the service needs one. The key is kept until the
// tab is closed, and is never part of a link.

import { ui } from "./dom.js";
import { keep, recall } from "./memory.js";

const form = ui["key-form"];
let key = recall("sessionStorage", "api-key") ?? "";
let isNew = false;

export function currentKey() {
  return key;
}

/** Shows the field; focuses it if the key that was just entered is refused. */
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
  dispatchEvent(new Event("key")); // listeners retry their refused requests
};
