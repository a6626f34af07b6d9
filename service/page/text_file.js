// A file translated portion by portion.

import { Problem, translate, translateHtml } from "./api.js";
import { duration, numCharacters } from "./dom.js";
import { cut, fill } from "./file_kinds.js";

const MAX_PASSAGES = 64; // of a request: small enough that progress is seen and no deadline is met
const MAX_CHARACTERS = 4000;
const BYTES_A_CHARACTER = 8; // at most: six as JSON, and a share of what is around the texts
const LONGEST_PAUSE_S = 600; // more is left to people

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

/** After a stop or an error `translate` goes on with what is not done. */
export class TextFile {
  done = 0; // passages

  constructor(text, kind, encoding) {
    Object.assign(this, { text, kind, encoding, passages: cut(text, kind) });
    this.total = this.passages.length;
  }

  /** `told(reason)` hears of progress, or why it waits. */
  async translate({ languages, limits, signal, told }) {
    told();
    this.isDetected ??= languages.isAuto;
    const sample = this.passages.slice(0, MAX_PASSAGES).map(({ text }) => text).join(" ");
    this.heard ??= await patiently(() => languages.detect(sample, signal), signal, told);
    this.pair ??= languages.pairFrom(this.heard[0]);
    for (const portion of portions(this.passages.slice(this.done), limits)) {
      await this.translatePortion(portion, signal, told);
    }
  }

  /** Halves what is refused, so that one bad passage costs only itself. */
  async translatePortion(portion, signal, told) {
    const texts = portion.map(({ text }) => text);
    try {
      const translated = await patiently(() => this.send(texts, signal), signal, told);
      translated.forEach((text, place) => {
        portion[place].translation = text;
      });
    } catch (problem) {
      if (![400, 413, 422, 504, 500].includes(problem.status)) throw problem;
      if (portion.length > 1) {
        const middle = portion.length >> 1;
        await this.translatePortion(portion.slice(0, middle), signal, told);
        return this.translatePortion(portion.slice(middle), signal, told);
      }
    }
    this.done += portion.length;
    told();
  }

  async send(texts, signal) {
    if (this.kind.isHtml) return translateHtml(texts, this.pair, signal);
    const { translations } = await translate({ text: texts, ...this.pair }, signal);
    return translations.map(({ text }) => text);
  }

  get result() {
    return fill(this.text, this.passages, this.kind);
  }

  /** The lines of passages that stay as they were. */
  get refused() {
    return this.passages
      .slice(0, this.done)
      .filter(({ translation }) => translation === undefined)
      .map(({ start }) => this.text.slice(0, start).split(/\r\n|\n|\r/).length);
  }
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

/** The answer to `request`, if need be after waiting for the service, the network or a key. */
async function patiently(request, signal, told) {
  for (;;) {
    try {
      return await request();
    } catch (problem) {
      const { message, retryAfterS: wait, wantsKey } = problem;
      if (!(problem instanceof Problem) || (wait === null && !wantsKey)) throw problem;
      if (wait > LONGEST_PAUSE_S) throw new Problem(`${message} Try again in ${duration(wait)}.`);
      told(`${message} The file goes on by itself.`);
      await pause(wait ?? LONGEST_PAUSE_S, signal);
      told();
    }
  }
}

/** Waits so long, or until there is a new key. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, seconds * 1000);
    addEventListener("key", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}
