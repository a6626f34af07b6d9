// Kinds of files: finds the passages of text in a file, and puts their translations in.

// An HTML tag, or a comment, script or code element with its content. A quote opens a value only
// after "=". The lookahead never gives back what it matched, which avoids slow backtracking over
// unclosed quotes.
const TAG =
  /<!--(?:-?>|[^]*?(?:--!?>|$))|<!\[CDATA\[[^]*?\]\]>|<(script|style|code|kbd|samp|math)(?=[\s/>])[^]*?(?:<\/\1(?=[\s/>])[^>]*>|$)|<[!?][^>]*>|<\/?[a-z](?=((?:=\s*(?:"[^"]*"|'[^']*')|[^>])*))\2>/gi;
const CUE_TAG = /<\/?[a-z][^<>]*>|\{\\[^{}]*\}/gi;
const CUE_TIME = /^\s*\d+:\d+:\d+[,.]\d+\s*-->/;
const SPEAKER = /^\s*[-–—]\s*/; // starts a line of dialogue, which is a passage of its own
const NEAR = 3; // characters, half a word: tolerance for the place of a line break
const NO_LETTER = /&(?:nbsp|amp|[lg]t|quot|copy|[lr]aquo|[mn]dash|hellip|middot|bull|times|#160);/g;

export const KINDS = {
  __proto__: null, // so that .constructor is not a known kind
  txt: { type: "text/plain", unit: "line", runs: lineRuns },
  srt: { type: "application/x-subrip", unit: "passage", runs: cueRuns },
  html: { type: "text/html", unit: "passage", runs: (text) => between(text, TAG, 0, text.length), isHtml: true },
};
KINDS.htm = KINDS.html;

/** The passages of `text` that have words, as `{ start, end, text }`, each on one line. */
export function cut(text, { runs, isHtml }) {
  const passages = [];
  for (const [from, to] of runs(text)) {
    const inside = text.slice(from, to);
    const start = to - inside.trimStart().length; // trims a byte order mark too
    const end = from + inside.trimEnd().length;
    const words = text.slice(start, end);
    const letter = isHtml ? /[\p{L}&]/u : /\p{L}/u;
    if (!letter.test(words.replace(NO_LETTER, ""))) continue;
    passages.push({ start, end, text: words.replace(/\s*[\r\n]+\s*/g, " ") });
  }
  return passages;
}

/** `text`, in which each passage with a `translation` is replaced by it. */
export function fill(text, passages, { isHtml }) {
  // Browsers do not read a page as UTF-8 unless it says so; character references work anyway.
  const isEscaped = isHtml && !/^\ufeff|(?:charset|encoding)\s*=\s*["']?utf-?8/i.test(text);
  let result = "";
  let end = 0;
  for (const passage of passages.filter(({ translation }) => translation !== undefined)) {
    let words = wrapped(passage.translation.replace(/[\r\n]+/g, " "), text.slice(passage.start, passage.end));
    if (isEscaped) words = words.replace(/[^\0-\x7f]/gu, (letter) => `&#${letter.codePointAt(0)};`);
    result += text.slice(end, passage.start) + words;
    end = passage.end;
  }
  return result + text.slice(end);
}

function* lineRuns(text) {
  for (const { 0: line, index } of text.matchAll(/[^\r\n]+/g)) yield [index, index + line.length];
}

/** The text of subtitles between their tags; a dialogue's lines are apart, other lines joined. */
function* cueRuns(text) {
  const rows = [...text.matchAll(/([^\r\n]*)(?:\r\n?|\n|$)/g)];
  let [hasBegun, from, to] = [false, null, 0];
  for (const [place, { 1: row, index }] of rows.entries()) {
    const isTime = CUE_TIME.test(row);
    const isNumber = /^\s*\d+\s*$/.test(row) && CUE_TIME.test(rows[place + 1]?.[1]);
    hasBegun ||= isTime; // no text comes before the first time
    const isText = hasBegun && !isTime && !isNumber && row.trim();
    const speaker = SPEAKER.exec(row)?.[0].length;
    if (from !== null && (!isText || speaker)) {
      yield* between(text, CUE_TAG, from, to);
      from = null;
    }
    if (!isText) continue;
    from ??= index + (speaker ?? 0);
    to = index + row.length;
  }
  if (from !== null) yield* between(text, CUE_TAG, from, to);
}

function* between(text, tag, from, to) {
  let start = from;
  for (const { 0: match, index } of text.slice(from, to).matchAll(tag)) {
    yield [start, from + index];
    start = from + index + match.length;
  }
  yield [start, to];
}

/** `text` with as many line breaks as `original` (if it has enough words), at similar places. */
function wrapped(text, original) {
  const lineEnds = [...original.matchAll(/\s*[\r\n]+\s*/g)];
  let spaces = text.match(/\s+/g)?.length;
  return text.replace(/\s+/g, (space, at) => {
    const isNear = (at + NEAR) / text.length >= lineEnds[0]?.index / original.length;
    return isNear || spaces-- <= lineEnds.length ? (lineEnds.shift()?.[0] ?? space) : space;
  });
}
