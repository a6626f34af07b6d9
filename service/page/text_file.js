// A file translated passage by passage: read, cut, sent in portions, put together again.

import { Problem, translate, translateHtml } from "./api.js";
import { cut, fill } from "./file_kinds.js";
import { numCharacters } from "./format.js";

const MAX_PASSAGES = 64; // of a request: small enough that progress is seen and no deadline is met
const MAX_CHARACTERS = 4000;
const BYTES_A_CHARACTER = 8; // at most: six as JSON, and a share of what is around the texts
const LONGEST_PAUSE_S = 1e6; // that timers know

/** The text of a file's bytes, and what they were: UTF-8 unless a mark or bad UTF-8 says otherwise. */
export function decode(bytes) {
  let encoding = { "255,254": "utf-16le", "254,255": "utf-16be" }[bytes.slice(0, 2)] ?? "utf-8";
  const decoded = (fatal) => new TextDecoder(encoding, { fatal, ignoreBOM: true }).decode(bytes);
  try {
    return { text: decoded(encoding === "utf-8"), encoding };
  } catch {
    encoding = "windows-1252";
    return { text: decoded(false), encoding };
  }
}

/**
 * The translation of `text`, its languages, and the lines of those passages that were refused and
 * left as they were. `told({ done, total, waiting })` hears of progress, and why it waits.
 */
export async function translateFile(text, { kind, detect, limits, signal, told }) {
  const passages = cut(text, kind);
  const total = passages.length;
  let done = 0;
  const job = { kind, signal, tell: (waiting) => told({ done, total, waiting }) };
  job.tell();
  const sample = passages.slice(0, MAX_PASSAGES).map((passage) => passage.text).join(" ");
  job.languages = (await patiently(() => detect(sample, signal), job)).pair;
  for (const portion of portions(passages, limits)) {
    await translatePortion(portion, job);
    done += portion.length;
    job.tell();
  }
  const refused = passages
    .filter(({ translation }) => translation === undefined)
    .map(({ start }) => text.slice(0, start).split(/\r\n|\n|\r/).length);
  return { text: fill(text, passages, kind), languages: job.languages, refused, total };
}

function* portions(passages, { maxTexts, maxCharacters, maxBodyBytes }) {
  const most = Math.min(MAX_PASSAGES, maxTexts);
  const mostCharacters = Math.min(MAX_CHARACTERS, maxCharacters, maxBodyBytes / BYTES_A_CHARACTER);
  let [from, size] = [0, 0];
  for (const [index, { text }] of passages.entries()) {
    const length = numCharacters(text) + 1;
    if (index > from && (index - from === most || size + length > mostCharacters)) {
      yield passages.slice(from, index);
      [from, size] = [index, 0];
    }
    size += length;
  }
  if (from < passages.length) yield passages.slice(from);
}

/** Halves what is refused, so that one bad passage costs only itself. */
async function translatePortion(portion, job) {
  const texts = portion.map(({ text }) => text);
  try {
    const translated = await patiently(() => send(texts, job), job);
    translated.forEach((text, place) => {
      portion[place].translation = text;
    });
  } catch (problem) {
    if (![400, 413, 422, 504, 500].includes(problem.status)) throw problem;
    if (portion.length === 1) return;
    const middle = portion.length >> 1;
    await translatePortion(portion.slice(0, middle), job);
    await translatePortion(portion.slice(middle), job);
  }
}

async function send(texts, { kind, languages, signal }) {
  if (kind.isHtml) return translateHtml(texts, languages, signal);
  const { translations } = await translate({ text: texts, ...languages }, signal);
  return translations.map(({ text }) => text);
}

/** The answer to `request`, if need be after waiting for the service, the network or a key. */
async function patiently(request, job) {
  for (;;) {
    try {
      return await request();
    } catch (problem) {
      if (!(problem instanceof Problem) || (problem.retryAfterS === null && !problem.wantsKey)) throw problem;
      job.tell(problem.message);
      await pause(problem.retryAfterS, job.signal);
      job.tell();
    }
  }
}

/** Waits so long, or until there is a new key. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, Math.min(seconds ?? LONGEST_PAUSE_S, LONGEST_PAUSE_S) * 1000);
    addEventListener("key", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}
