// Translates a file in portions; each portion is one request.

import { Problem, translate, translateHtml } from "./api.js";
import { duration, numCharacters } from "./dom.js";
import { cut, fill } from "./file_kinds.js";

const MAX_PASSAGES = 64; // of a portion: few, to show progress and to stay within the deadline
const MAX_CHARACTERS = 4000;
const BYTES_PER_CHARACTER = 8; // at most: six if escaped in JSON, and a share of the body's rest
const MAX_WAIT_S = 600; // after longer waits the reader has to continue the job

/** A file's text and its encoding: UTF-8 unless a mark or bad UTF-8 says otherwise. */
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

/** A file's job; after a stop or an error `translate` continues with the rest of the passages. */
export class TextFile {
  done = 0; // passages

  constructor(text, kind, encoding) {
    Object.assign(this, { text, kind, encoding, passages: cut(text, kind) });
    this.total = this.passages.length;
  }

  /** Calls `report()` after each portion, and `report(reason)` while it waits. */
  async translate({ languages, limits, signal, report }) {
    report();
    this.isAuto ??= languages.isAuto;
    const sample = this.passages.slice(0, MAX_PASSAGES).map(({ text }) => text).join(" ");
    this.detected ??= await withRetries(() => languages.detect(sample, signal), signal, report);
    this.pair ??= languages.pairFrom(this.detected[0]);
    for (const portion of portions(this.passages.slice(this.done), limits)) {
      await this.translatePortion(portion, signal, report);
    }
  }

  /** Splits a refused portion in halves, so that one bad passage does not stop the others. */
  async translatePortion(portion, signal, report) {
    const texts = portion.map(({ text }) => text);
    try {
      const translated = await withRetries(() => this.send(texts, signal), signal, report);
      translated.forEach((text, place) => {
        portion[place].translation = text;
      });
    } catch (problem) {
      if (![400, 413, 422, 504, 500].includes(problem.status)) throw problem;
      if (portion.length > 1) {
        const middle = portion.length >> 1;
        await this.translatePortion(portion.slice(0, middle), signal, report);
        return this.translatePortion(portion.slice(middle), signal, report);
      }
    }
    this.done += portion.length;
    report();
  }

  async send(texts, signal) {
    if (this.kind.isHtml) return translateHtml(texts, this.pair, signal);
    const { translations } = await translate({ text: texts, ...this.pair }, signal);
    return translations.map(({ text }) => text);
  }

  get result() {
    return fill(this.text, this.passages, this.kind);
  }

  /** The line numbers of the passages that could not be translated. */
  get refused() {
    return this.passages
      .slice(0, this.done)
      .filter(({ translation }) => translation === undefined)
      .map(({ start }) => this.text.slice(0, start).split(/\r\n|\n|\r/).length);
  }
}

function* portions(passages, { maxTexts, maxCharacters, maxBodyBytes }) {
  const most = Math.min(MAX_PASSAGES, maxTexts);
  const mostCharacters = Math.min(MAX_CHARACTERS, maxCharacters, maxBodyBytes / BYTES_PER_CHARACTER);
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

/** The answer to `request`; retries it while the service is busy, unreachable or needs a key. */
async function withRetries(request, signal, report) {
  for (;;) {
    try {
      return await request();
    } catch (problem) {
      const { message, retryAfterS: wait, needsKey } = problem;
      if (!(problem instanceof Problem) || (wait === null && !needsKey)) throw problem;
      if (wait > MAX_WAIT_S) throw new Problem(`${message} Try again in ${duration(wait)}.`);
      report(`${message} The file continues by itself.`);
      await pause(wait ?? MAX_WAIT_S, signal);
      report();
    }
  }
}

/** Waits for `seconds`, or until a new key is entered. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, seconds * 1000);
    addEventListener("key", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}
