// Converts the network's pieces into words, with their attention and confidence.

const BYTE = /^<0x[0-9A-F]{2}>$/;
const WORDS = new Intl.Segmenter("en", { granularity: "word" }); // works for any script

/**
 * For each segment `{ sources, targets }`: lists of words `{ text, start, end }`, with positions in
 * the whole text. Targets also have `confidence` (0 to 1) and `weights` (one for each source word
 * and one for the end; they sum to 1). Both are null if unknown.
 */
export function wordsOf(source, translation) {
  let [sourceEnd, targetEnd] = [0, 0];
  const result = [];
  for (const segment of translation.segments ?? []) {
    const sourceStart = source.indexOf(segment.source, sourceEnd);
    const targetStart = translation.text.indexOf(segment.text, targetEnd);
    if (sourceStart < 0 || targetStart < 0) continue;
    sourceEnd = sourceStart + segment.source.length;
    targetEnd = targetStart + segment.text.length;
    const sources = split(segment.source, sourceStart);
    const targets = split(segment.text, targetStart);
    addAttention(segment, sources, targets);
    result.push({ sources, targets });
  }
  return result;
}

/** The words and punctuation marks of `text`, which begins at `offset` of the whole text. */
function split(text, offset) {
  const words = [];
  let wasMark = false;
  for (const { segment, index, isWordLike } of WORDS.segment(text)) {
    const isMark = !isWordLike && segment.trim() !== "";
    const start = offset + index;
    const end = start + segment.length;
    if (isMark && wasMark) {
      const last = words.at(-1); // adjacent marks such as "..." and "?!" are joined
      Object.assign(last, { text: last.text + segment, end });
    } else if (isMark || isWordLike) words.push({ text: segment, start, end });
    wasMark = isMark;
  }
  return words;
}

function addAttention(segment, sources, targets) {
  const sourceShares = shares(segment.source_pieces, sources);
  const targetShares = shares(segment.target_pieces, targets);
  for (const target of targets) {
    target.weights = Array(sources.length + 1).fill(0);
    target.logProb = 0;
  }
  targetShares.forEach((parts, row) => {
    const attention = segment.alignment?.[row];
    for (const [word, share] of parts) {
      const target = targets[word];
      target.logProb += share * (segment.token_log_probs?.[row] ?? 0);
      attention?.forEach((weight, column) => {
        const columns = sourceShares[column] ?? [[sources.length, 1]]; // past the last piece: the end
        for (const [source, part] of columns) target.weights[source] += share * weight * part;
      });
    }
  });
  for (const target of targets) {
    target.confidence = segment.token_log_probs ? Math.exp(target.logProb) : null;
    const sum = target.weights.reduce((total, weight) => total + weight, 0);
    target.weights = sum > 0 ? target.weights.map((weight) => weight / sum) : null;
  }
}

/**
 * For every piece the words that it covers, as [index, share]; the shares of a piece sum to 1.
 * Pieces and words are matched by counting letters, in words after normalisation as in pieces
 * (the ligature ﬁ is two letters). If the counts still differ, positions are scaled.
 */
function shares(pieces, words) {
  if (words.length === 0) return pieces.map(() => []);
  const wordEnds = ends(words.map((word) => numLetters(word.text)));
  const pieceEnds = ends(pieces.map(numLettersOfPiece));
  const stretch = wordEnds.at(-1) / Math.max(1, pieceEnds.at(-1) ?? 1);
  let word = 0;
  return pieceEnds.map((pieceEnd, index) => {
    const end = pieceEnd * stretch;
    const start = (index > 0 ? pieceEnds[index - 1] : 0) * stretch;
    while (word < words.length - 1 && wordEnds[word] <= start) word += 1;
    if (end <= start) {
      // ▁ alone belongs to the next word; a letter's later bytes belong to the letter's word
      const isByte = BYTE.test(pieces[index]);
      return [[isByte && word > 0 && wordEnds[word - 1] >= end ? word - 1 : word, 1]];
    }
    const parts = [];
    for (let at = word, from = start; from < end && at < words.length; at += 1) {
      const to = at === words.length - 1 ? end : Math.min(end, wordEnds[at]);
      if (to > from) parts.push([at, (to - from) / (end - start)]);
      from = Math.max(from, to);
    }
    return parts;
  });
}

function ends(lengths) {
  let end = 0;
  return lengths.map((length) => (end += length));
}

function numLetters(text) {
  return [...text.normalize("NFKC").replace(/\s/g, "")].length;
}

function numLettersOfPiece(piece) {
  if (!BYTE.test(piece)) return numLetters(piece.replaceAll("▁", ""));
  return /^<0x[89AB]/.test(piece) ? 0 : 1; // only the first UTF-8 byte of a letter counts
}
