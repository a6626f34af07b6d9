// The translation as selectable words: the source words of each, and the model's confidence in it.

import { element, percent, ui } from "./dom.js";

const MIN_SHOWN = 0.05; // attention below is noise to a reader
const MAX_NAMED = 3; // words that a warning names
const MIN_NUMBER = 0.1; // smaller shares are coloured without a number, except for screen readers

const SIGNS = {
  copied: "it is your text, unchanged",
  loop: "it repeats itself",
  cut: "its end may be missing",
  too_short: "it is much shorter than your text",
  too_long: "it is much longer than your text",
  numbers: "its numbers are not those of your text",
};

/** The signs of a bad translation as a sentence; the sign `unsure` names `unsureWords`. */
export function warningOf(signs, unsureWords) {
  const reasons = signs.map((sign) => (sign === "unsure" ? reasonOf(unsureWords) : (SIGNS[sign] ?? sign)));
  return signs.length > 0 ? `Check this translation: ${reasons.join("; ")}.` : "";
}

function reasonOf(unsureWords) {
  const named = unsureWords.slice(0, MAX_NAMED).map(quoted);
  if (named.length === 0) return "the model was unsure of a word"; // of a long text, without words
  return `the model was unsure of ${named.join(", ")}${unsureWords.length > MAX_NAMED ? " and more" : ""}`;
}

const quoted = ({ text }) => `“${text}”`;

export class Output {
  box = ui.output;
  words = [];
  unsureWords = []; // those that a warning names
  source = null; // the text that `words` translate
  chosen = null;

  /** `explain` shows a sentence about a word; `segmentChosen` gets the segment of a chosen word. */
  constructor(explain, segmentChosen) {
    Object.assign(this, { explain, segmentChosen });
    this.box.onkeydown = (event) => this.move(event);
    this.box.addEventListener("focusin", (event) => this.choose(event.target));
    this.box.onpointerover = (event) => this.mark(this.wordOf(event.target));
    this.box.onpointerleave = () => this.mark(this.wordOf(this.chosen));
  }

  show(text, segments, source) {
    this.source = source;
    this.chosen = null;
    this.unsureWords = [];
    this.words = segments.flatMap((segment) =>
      segment.targets.map((word) => ({ ...word, segment, element: wordElement(word) })),
    );
    this.box.replaceChildren(...withElements(text, this.words));
    if (this.words.length > 0) this.words[0].element.tabIndex = 0;
    const spoken = text.trim();
    if (ui.spoken.textContent !== spoken) ui.spoken.textContent = spoken; // not read twice
    this.mark();
    this.explain("");
  }

  /** Marks the words whose confidence is below `bound`, and the one with the lowest. */
  markUnsure(bound = 0) {
    const known = this.words.filter(({ confidence }) => confidence !== null);
    const least = Math.min(...known.map(({ confidence }) => confidence));
    this.unsureWords = known.filter(({ confidence }) => confidence < bound || confidence === least);
    for (const { element } of this.unsureWords) element.classList.add("doubted");
  }

  /** A sentence that names the words with low confidence. */
  confidenceSentence() {
    const known = this.words.filter(({ confidence }) => confidence !== null);
    const unsure = known.filter(({ confidence }) => level(confidence) !== "sure");
    if (known.length === 0) return "There is no confidence for this text.";
    if (unsure.length === 0) return "The model was sure of every word.";
    const named = unsure.slice(0, 12).map((word) => `${quoted(word)} ${percent(word.confidence)}`);
    return `Less sure: ${named.join(", ")}${unsure[12] ? " …" : "."}`;
  }

  /** Removes the marks in the source, which has changed. */
  clearMarks() {
    this.chosen?.classList.remove("chosen");
    this.chosen = null;
    this.source = null;
    this.explain("");
  }

  move(event) {
    const here = this.words.findIndex((word) => word.element === event.target);
    const last = this.words.length - 1;
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -last, End: last };
    if (here < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const { element } = this.words[Math.min(Math.max(0, here + steps[event.key]), last)];
    event.target.tabIndex = -1;
    element.tabIndex = 0;
    element.focus();
  }

  choose(target) {
    const word = this.wordOf(target);
    if (!word || this.source === null) return;
    this.chosen?.classList.remove("chosen");
    this.chosen = target;
    target.classList.add("chosen");
    this.mark(word);
    this.explain(sentence(word));
    this.segmentChosen(word.segment);
  }

  wordOf(target) {
    return this.words.find((word) => word.element === target);
  }

  /** Highlights the source words of `word` in the copy of the text behind the text area. */
  mark(word) {
    if (this.source === null) return;
    const origins = originsOf(word).map((origin) => {
      const mark = element("mark", { textContent: this.source.slice(origin.start, origin.end) });
      mark.style.setProperty("--weight", origin.weight);
      return { ...origin, element: mark };
    });
    ui.marks.replaceChildren(...withElements(this.source, origins), "\n"); // gives an empty last line its height
  }
}

/** The nodes of `text`, with each word's element in place of the word. */
function withElements(text, words) {
  let end = 0;
  const nodes = words.flatMap((word) => {
    const before = text.slice(end, word.start);
    end = word.end;
    return [before, word.element];
  });
  return [...nodes, text.slice(end)];
}

function wordElement({ text, confidence }) {
  const word = element("span", { className: "word", textContent: text, tabIndex: -1, role: "button" });
  if (confidence !== null) word.dataset.level = level(confidence);
  return word;
}

function level(confidence) {
  if (confidence < 0.2) return "doubtful";
  return confidence < 0.45 ? "unsure" : "sure";
}

function originsOf(word) {
  if (!word?.weights) return [];
  return word.segment.sources
    .map((source, index) => ({ ...source, weight: word.weights[index] }))
    .filter(({ weight }) => weight >= MIN_SHOWN);
}

function sentence(word) {
  const origins = originsOf(word)
    .sort((a, b) => b.weight - a.weight)
    .slice(0, 4)
    .map((origin) => `${quoted(origin)} ${percent(origin.weight)}`);
  const from = `comes from ${origins.join(", ") || "no word in particular"}`;
  const sure = word.confidence === null ? "" : ` Confidence ${percent(word.confidence)}.`;
  return `${quoted(word)} ${word.weights ? from : "is shown without its origin"}.${sure}`;
}

export function heatmap({ sources, targets }) {
  const table = element("table");
  const head = table.createTHead().insertRow();
  head.insertCell();
  for (const { text } of sources) head.append(header(text, "col"));
  head.append(header("(end)", "col"));
  const body = table.createTBody();
  for (const target of targets) {
    if (!target.weights) continue;
    const row = body.insertRow();
    row.append(header(target.text, "row"));
    for (const weight of target.weights) row.append(cell(weight));
  }
  return table;
}

function header(text, scope) {
  const head = element("th", { scope });
  head.append(element("span", { textContent: text }));
  return head;
}

function cell(weight) {
  const box = element("td", { title: percent(weight) });
  box.style.setProperty("--weight", weight);
  const className = weight < MIN_NUMBER ? "unseen" : "";
  box.append(element("span", { textContent: Math.round(weight * 100), className }));
  return box;
}
