// The service's own API: models, languages and translations, and its refusals as sentences.

import { askForKey, currentKey } from "./key.js";

const ASK_AGAIN_S = 5; // where the service does not say
const UNREACHABLE = "The service cannot be reached.";
const DETECTED = 2000; // characters tell the language

/** Why there is no answer, as a sentence, and if trying again may help, in how long. */
export class Problem extends Error {
  retryAfterS = null;

  constructor(sentence, details) {
    super(sentence);
    Object.assign(this, details); // status, retryAfterS, wantsKey
  }
}

export async function listModels() {
  return (await call("v1/models", {})).models;
}

export function translate(body, signal) {
  return post("v1/translate", body, signal);
}

/** Pieces of HTML: with entities, without tags. LibreTranslate's route knows all entities. */
export async function translateHtml(q, languages, signal) {
  return (await post("translate", { q, ...languages, format: "html" }, signal)).translatedText;
}

/** `{ language, confidence }`, likeliest first; a confidence of 0 is a guess. */
export function detect(text, signal) {
  return post("detect", { q: text.slice(0, DETECTED).toWellFormed() }, signal);
}

/** The same request as a line for a shell; single quotes keep everything else as it is. */
export function asCurl(body) {
  const url = new URL("v1/translate", document.baseURI);
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  const key = currentKey() && ' -H "Authorization: Bearer $DRAGOMAN_KEY"';
  return `curl -s '${url.href.replaceAll("'", "%27")}' -H 'Content-Type: application/json'${key} \\\n    -d '${json}'`;
}

function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return call(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function call(path, options) {
  let response, answer;
  const key = currentKey() && { Authorization: `Bearer ${currentKey()}` };
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...key } });
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response && !response.ok) throw refusal(response, null);
    throw new Problem(UNREACHABLE, { retryAfterS: ASK_AGAIN_S });
  }
  if (!response.ok) throw refusal(response, answer);
  return answer;
}

function refusal(response, answer) {
  const said = String(answer?.error?.message ?? answer?.error ?? "see the service's log");
  const code = answer?.error?.code;
  const { status } = response;
  const wantsKey = status === 401 || status === 403;
  if (wantsKey) askForKey();
  const sentence = {
    401: "The service wants an API key. Enter yours.",
    403: `The service refused the API key: ${said}.`,
    413: `This is too much for one request: ${said}.`,
    429: code === "rate_limited" ? "These were too many texts in a short time." : "The service is busy.",
    502: UNREACHABLE,
    503: `The service is not ready: ${said}.`,
    504: "This took too long. Try a shorter text, or send it as a file.",
  }[wantsKey && !currentKey() ? 401 : status];
  const asked = Number.parseInt(response.headers.get("Retry-After"), 10);
  const wait = [429, 502, 503].includes(status) ? ASK_AGAIN_S : null;
  const retryAfterS = (wait || wantsKey) && asked > 0 ? asked : wait; // a quota has an end, too
  return new Problem(sentence ?? `Not translated: ${said}.`, { status, retryAfterS, wantsKey });
}
