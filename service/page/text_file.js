// A text file, translated line by line: the same lines and line ends, only other words.

import { Problem, translate } from "./api.js";
import { numCharacters } from "./format.js";

const MAX_LINES = 64; // of a request: small enough that progress is seen and no deadline is met
const MAX_CHARACTERS = 4000;
const BYTES_A_CHARACTER = 6; // at most, as JSON
const ENVELOPE_BYTES = 300; // of a request, around its texts

/** The text of a file's bytes, and what they were: UTF-8 unless a mark or bad UTF-8 says otherwise. */
export function decode(bytes) {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return { text: decoded("utf-16le", bytes), encoding: "UTF-16" };
  if (first === 0xfe && second === 0xff) return { text: decoded("utf-16be", bytes), encoding: "UTF-16" };
  try {
    return { text: decoded("utf-8", bytes), encoding: "UTF-8" };
  } catch {
    return { text: decoded("windows-1252", bytes), encoding: "Windows-1252" };
  }
}

function decoded(encoding, bytes) {
  return new TextDecoder(encoding, { fatal: encoding === "utf-8", ignoreBOM: false }).decode(bytes);
}

/** Lines and the ends that follow them; joined in turn they are the text. */
export function linesOf(text) {
  const parts = text.split(/(\r\n|\n|\r)/);
  return {
    lines: parts.filter((_, index) => index % 2 === 0),
    ends: parts.filter((_, index) => index % 2 === 1),
  };
}

/**
 * The translation of `text` and the numbers of the lines that were refused and left as they were.
 * `told({ done, total, waiting })` hears of progress, and of a wait in a sentence.
 */
export async function translateLines(text, { languages, limits, signal, told }) {
  const { lines, ends } = linesOf(text);
  const translated = [...lines];
  const work = lines.map((line, index) => ({ line, index })).filter(({ line }) => line.trim());
  const refused = [];
  const job = { languages, signal, translated, refused, waiting: null };
  let done = 0;
  const tell = () => told({ done, total: work.length, waiting: job.waiting });
  job.tell = tell;
  tell();
  for (const portion of portions(work, limits)) {
    await translatePortion(portion, job);
    done += portion.length;
    tell();
  }
  const joined = translated.map((line, index) => line + (ends[index] ?? "")).join("");
  return { text: joined, refused, numLines: work.length };
}

function* portions(work, { maxTexts, maxCharacters, maxBodyBytes }) {
  const mostLines = Math.min(MAX_LINES, maxTexts);
  const inBody = Math.floor((maxBodyBytes - ENVELOPE_BYTES) / BYTES_A_CHARACTER);
  const mostCharacters = Math.min(MAX_CHARACTERS, maxCharacters, inBody);
  let portion = [];
  let size = 0;
  for (const item of work) {
    const length = numCharacters(item.line) + 1;
    if (portion.length > 0 && (portion.length === mostLines || size + length > mostCharacters)) {
      yield portion;
      portion = [];
      size = 0;
    }
    portion.push(item);
    size += length;
  }
  if (portion.length > 0) yield portion;
}

/** Waits while the service is busy; halves what is refused, so that one bad line costs only itself. */
async function translatePortion(portion, job) {
  const body = { text: portion.map(({ line }) => line), ...job.languages };
  try {
    const { translations } = await translate(body, job.signal);
    translations.forEach(({ text }, index) => {
      // A line stays one line whatever the model wrote.
      job.translated[portion[index].index] = text.replace(/[\r\n]+/g, " ");
    });
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.retryAfterS !== null) {
      job.waiting = problem.message;
      job.tell();
      await pause(problem.retryAfterS, job.signal);
      job.waiting = null;
      await translatePortion(portion, job);
    } else if (![413, 422, 504, 500].includes(problem.status)) {
      throw problem;
    } else if (portion.length > 1) {
      const middle = portion.length >> 1;
      await translatePortion(portion.slice(0, middle), job);
      await translatePortion(portion.slice(middle), job);
    } else {
      job.refused.push(portion[0].index + 1);
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
