// The service's own API: models, languages and translations, and its refusals as sentences.

import { askForKey, currentKey } from "./key.js";

const ASK_AGAIN_S = 5; // where the service does not say
const UNREACHABLE = "The service cannot be reached.";
const DETECTED = 2000; // characters tell the language
const LONGEST_PAUSE_S = 1e6; // that timers know

/** Why there is no answer, as a sentence, and if trying again may help, in how long. */
export class Problem extends Error {
  retryAfterS = null;

  constructor(sentence, details) {
    super(sentence);
    Object.assign(this, details); // status, retryAfterS, wantsKey, isQuota
  }
}

export async function listModels() {
  return (await call("v1/models")).models;
}

export function translate(body, signal) {
  return call("v1/translate", body, signal);
}

/** Pieces of HTML: with entities, without tags. LibreTranslate's route knows all entities. */
export async function translateHtml(q, languages, signal) {
  return (await call("translate", { q, ...languages, format: "html" }, signal)).translatedText;
}

/** `{ language, confidence }`, in percent, likeliest first; 0 is a guess. */
export function detect(text, signal) {
  return call("detect", { q: text.slice(0, DETECTED).toWellFormed() }, signal);
}

/** The same request for a shell; single quotes keep all else as it is. */
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
    if (response && !response.ok) throw refusal(response, null);
    throw new Problem(UNREACHABLE, { retryAfterS: ASK_AGAIN_S });
  }
  if (!response.ok) throw refusal(response, answer);
  return answer;
}

function refusal(response, answer) {
  const { status } = response;
  const said = String(answer?.error?.message ?? answer?.error ?? `the server answered ${status}`);
  const why = `${answer?.error?.code} ${said}`; // LibreTranslate's routes have no codes
  const isRefused = answer && (status === 401 || status === 403); // not by a proxy
  const isQuota = isRefused && /quota/.test(why);
  const wantsKey = isRefused && !isQuota;
  if (isRefused) askForKey(wantsKey);
  const refused = currentKey() ? `The service refused the API key: ${said}.` : "The service wants an API key. Enter yours.";
  const ofKey = isQuota ? `This is more than the API key has left: ${said}.` : refused;
  const sentence = {
    413: `This is too much for one request: ${said}.`,
    429: /rate[_ ]/.test(why) ? "These were too many texts in a short time." : "The service is busy.",
    502: UNREACHABLE,
    503: `The service is not ready: ${said}.`,
    504: "This took too long. Try a shorter text, or send it as a file.",
  }[status] ?? (isRefused ? ofKey : `Not translated: ${said}.`);
  const asked = Number.parseInt(response.headers.get("Retry-After"), 10);
  const wait = asked > 0 ? Math.min(asked, LONGEST_PAUSE_S) : ASK_AGAIN_S;
  const retryAfterS = [429, 502, 503].includes(status) ? wait : null;
  return new Problem(sentence, { status, retryAfterS, wantsKey, isQuota });
}
