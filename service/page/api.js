// Calls the service's API, and turns its error answers into sentences for the reader.

import { askForKey, currentKey } from "./key.js";

const RETRY_S = 5; // if the answer has no Retry-After
const UNREACHABLE = "The service cannot be reached.";
const DETECT_CHARACTERS = 2000; // enough to detect a language
const MAX_TIMER_S = 1e6; // timers of browsers overflow at 2.1e6

/** An error whose message is for the reader; `retryAfterS` is null if a retry does not help. */
export class Problem extends Error {
  retryAfterS = null;

  constructor(sentence, details) {
    super(sentence);
    Object.assign(this, details); // status, retryAfterS, needsKey, isQuota
  }
}

export async function listModels() {
  return (await call("v1/models")).models;
}

export function translate(body, signal) {
  return call("v1/translate", body, signal);
}

/** Translates HTML without tags by LibreTranslate's route, which decodes all entities. */
export async function translateHtml(q, languages, signal) {
  return (await call("translate", { q, ...languages, format: "html" }, signal)).translatedText;
}

/** A list of `{ language, confidence }`, most likely first, in percent; 0 means a guess. */
export function detect(text, signal) {
  return call("detect", { q: text.slice(0, DETECT_CHARACTERS).toWellFormed() }, signal);
}

/** The request as a curl command; in single quotes a shell changes nothing. */
export function asCurl(body) {
  const url = new URL("v1/translate", document.baseURI);
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  const key = currentKey() && ' -H "Authorization: Bearer $DRAGOMAN_KEY"';
  return `curl -s '${url.href.replaceAll("'", "%27")}' -H 'Content-Type: application/json'${key} \\\n    -d '${json}'`;
}

async function call(path, body, signal) {
  let response, answer;
  const headers = { "Content-Type": "application/json" };
  if (currentKey()) headers.Authorization = `Bearer ${currentKey()}`;
  const method = body ? "POST" : "GET";
  try {
    response = await fetch(path, { method, headers, body: JSON.stringify(body), signal });
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response && !response.ok) throw problemOf(response, null);
    throw new Problem(UNREACHABLE, { retryAfterS: RETRY_S });
  }
  if (!response.ok) throw problemOf(response, answer);
  return answer;
}

function problemOf(response, answer) {
  const { status } = response;
  const error = answer?.error;
  const message = String(error?.message ?? error ?? `the server answered ${status}`);
  const reason = `${error?.code} ${message}`; // LibreTranslate's routes send no codes
  const isRefused = answer && (status === 401 || status === 403); // a proxy sends no JSON
  const isQuota = isRefused && /quota/.test(reason);
  const needsKey = isRefused && !isQuota;
  if (isRefused) askForKey(needsKey);
  const keyProblem = currentKey() ? `The service refused the API key: ${message}.` : "The service needs an API key. Enter yours.";
  const refused = isQuota ? `This exceeds the quota of the API key: ${message}.` : keyProblem;
  const sentence = {
    413: `This is too much for one request: ${message}.`,
    429: /rate[_ ]/.test(reason) ? "You sent too many texts in a short time." : "The service is busy.",
    502: UNREACHABLE,
    503: `The service is not ready: ${message}.`,
    504: "This took too long. Try a shorter text, or send it as a file.",
  }[status] ?? (isRefused ? refused : `Not translated: ${message}.`);
  const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
  const wait = seconds > 0 ? Math.min(seconds, MAX_TIMER_S) : RETRY_S;
  const retryAfterS = [429, 502, 503].includes(status) ? wait : null;
  return new Problem(sentence, { status, retryAfterS, needsKey, isQuota });
}
