// Kinds of files, and which parts of each are text.

// A tag of HTML, or a comment, script or code with all that is in it. A quote opens a value only
// after "="; the lookahead keeps what it took, which spares trying all ways to read unclosed quotes.
const TAG =
  /<!--(?:-?>|[^]*?(?:--!?>|$))|<!\[CDATA\[[^]*?\]\]>|<(script|style|code|kbd|samp|math)(?=[\s/>])[^]*?(?:<\/\1(?=[\s/>])[^>]*>|$)|<[!?][^>]*>|<\/?[a-z](?=((?:=\s*(?:"[^"]*"|'[^']*')|[^>])*))\2>/gi;
const CUE_TAG = /<\/?[a-z][^<>]*>|\{\\[^{}]*\}/gi;
const CUE_TIME = /^\s*\d+:\d+:\d+[,.]\d+\s*-->/;
const SPEAKER = /^\s*[-–—]\s*/; // a line of a dialogue is a sentence of its own
const NEAR = 3; // characters: half a word
const NO_LETTER = /&(?:nbsp|amp|[lg]t|quot|copy|[lr]aquo|[mn]dash|hellip|middot|bull|times|#160);/g;

export const KINDS = {
  __proto__: null, // no file ends in .constructor
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
    const start = to - inside.trimStart().length; // a byte order mark counts as a blank
    const end = from + inside.trimEnd().length;
    const words = text.slice(start, end);
    const letter = isHtml ? /[\p{L}&]/u : /\p{L}/u;
    if (!letter.test(words.replace(NO_LETTER, ""))) continue;
    passages.push({ start, end, text: words.replace(/\s*[\r\n]+\s*/g, " ") });
  }
  return passages;
}

/** `text` with the passages that have a `translation` replaced by it. */
export function fill(text, passages, { isHtml }) {
  // Without a word about its encoding a page is not read as UTF-8: what is not ASCII is spelt out.
  const spelt = isHtml && !/^\ufeff|(?:charset|encoding)\s*=\s*["']?utf-?8/i.test(text);
  let result = "";
  let end = 0;
  for (const passage of passages.filter(({ translation }) => translation !== undefined)) {
    let words = wrapped(passage.translation.replace(/[\r\n]+/g, " "), text.slice(passage.start, passage.end));
    if (spelt) words = words.replace(/[^\0-\x7f]/gu, (letter) => `&#${letter.codePointAt(0)};`);
    result += text.slice(end, passage.start) + words;
    end = passage.end;
  }
  return result + text.slice(end);
}

function* lineRuns(text) {
  for (const { 0: line, index } of text.matchAll(/[^\r\n]+/g)) yield [index, index + line.length];
}

/** Lines of a subtitle that belong together, between its tags; blank lines in it are kept, too. */
function* cueRuns(text) {
  const rows = [...text.matchAll(/([^\r\n]*)(?:\r\n?|\n|$)/g)];
  let [begun, from, to] = [false, null, 0];
  for (const [place, { 1: row, index }] of rows.entries()) {
    const isTime = CUE_TIME.test(row);
    const isNumber = /^\s*\d+\s*$/.test(row) && CUE_TIME.test(rows[place + 1]?.[1]);
    begun ||= isTime; // before the first there is no text
    const isText = begun && !isTime && !isNumber && row.trim();
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
  for (const { 0: found, index } of text.slice(from, to).matchAll(tag)) {
    yield [start, from + index];
    start = from + index + found.length;
  }
  yield [start, to];
}

/** `text` on as many lines as `original` has, if it has the words, broken near the same places. */
function wrapped(text, original) {
  const lineEnds = [...original.matchAll(/\s*[\r\n]+\s*/g)];
  let spaces = text.match(/\s+/g)?.length;
  return text.replace(/\s+/g, (space, at) => {
    const isNear = (at + NEAR) / text.length >= lineEnds[0]?.index / original.length;
    return isNear || spaces-- <= lineEnds.length ? (lineEnds.shift()?.[0] ?? space) : space;
  });
}
