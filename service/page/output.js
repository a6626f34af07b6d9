// The translation as words to point at: what each came from, and how sure the model was.

import { percent } from "./format.js";

const SHOWN_FROM = 0.05; // less attention than this is noise to a reader
const LEVELS = [
  [0.2, "doubtful"],
  [0.45, "unsure"],
];

export class Output {
  /** `explain(sentence)` is told in words what is shown in colours. */
  constructor({ box, spoken, marks, explain, segmentChosen }) {
    Object.assign(this, { box, spoken, marks, explain, segmentChosen });
    this.words = [];
    this.source = "";
    this.chosen = null;
    box.addEventListener("keydown", (event) => this.move(event));
    box.addEventListener("focusin", (event) => this.choose(event.target, { aloud: true }));
    box.addEventListener("pointerover", (event) => this.glance(event.target));
    box.addEventListener("pointerleave", () => this.glance(this.chosen));
  }

  /** Shows `text`; of `segments` (see words.js) may be none. */
  show(text, segments, source) {
    this.source = source;
    this.chosen = null;
    this.words = segments.flatMap((segment) =>
      segment.targets.map((word) => ({ ...word, segment, element: wordElement(word) })),
    );
    const nodes = [];
    let end = 0;
    for (const word of this.words) {
      if (word.start > end) nodes.push(text.slice(end, word.start));
      nodes.push(word.element);
      end = word.end;
    }
    if (end < text.length) nodes.push(text.slice(end));
    this.box.replaceChildren(...nodes); // strings become text nodes, never markup
    if (this.words.length > 0) this.words[0].element.tabIndex = 0;
    this.spoken.textContent = text;
    this.mark(null);
    this.explain("");
  }

  /** The words the model doubted, as a sentence. */
  doubts() {
    const known = this.words.filter((word) => word.confidence !== null);
    const doubted = known.filter((word) => level(word.confidence) !== "sure");
    if (known.length === 0) return "There is no confidence for this text.";
    if (doubted.length === 0) return "The model was sure of every word.";
    const named = doubted.map((word) => `${word.text} ${percent(word.confidence)}`);
    return `Less sure: ${named.join(", ")}.`;
  }

  /** The source changed: what is marked in it is no longer true. */
  forget() {
    this.chosen?.classList.remove("chosen");
    this.chosen = null;
    this.source = null;
    this.explain("");
  }

  move(event) {
    const here = this.words.findIndex((word) => word.element === event.target);
    if (here < 0) return;
    const last = this.words.length - 1;
    const steps = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1 };
    const next = { ...steps, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const { element } = this.words[Math.max(0, Math.min(last, next))];
    event.target.tabIndex = -1;
    element.tabIndex = 0;
    element.focus();
  }

  choose(element, { aloud }) {
    const word = this.words.find((candidate) => candidate.element === element);
    if (!word || this.source === null) return;
    this.chosen?.classList.remove("chosen");
    this.chosen = element;
    element.classList.add("chosen");
    this.mark(word);
    if (aloud) this.explain(sentence(word));
    this.segmentChosen(word.segment);
  }

  glance(element) {
    if (this.source !== null) this.mark(this.words.find((word) => word.element === element) ?? null);
  }

  /** Paints in the source where `word` came from; the box behind the text area mirrors its text. */
  mark(word) {
    if (this.source === null) return;
    const nodes = [];
    let end = 0;
    for (const { start, end: wordEnd, weight } of originsOf(word).sort((a, b) => a.start - b.start)) {
      const element = document.createElement("mark");
      element.textContent = this.source.slice(start, wordEnd);
      element.style.setProperty("--weight", weight.toFixed(2));
      nodes.push(this.source.slice(end, start), element);
      end = wordEnd;
    }
    // A last line that is empty has no height without something on it.
    this.marks.replaceChildren(...nodes, `${this.source.slice(end)}\n`);
  }
}

function wordElement(word) {
  const element = document.createElement("span");
  element.className = "word";
  element.textContent = word.text;
  element.tabIndex = -1;
  element.setAttribute("role", "button");
  if (word.confidence !== null) element.dataset.level = level(word.confidence);
  return element;
}

function level(confidence) {
  return LEVELS.find(([below]) => confidence < below)?.[1] ?? "sure";
}

function originsOf(word) {
  if (!word?.weights) return [];
  return word.segment.sources
    .map((source, index) => ({ ...source, weight: word.weights[index] }))
    .filter(({ weight }) => weight >= SHOWN_FROM);
}

function sentence(word) {
  const origins = originsOf(word)
    .sort((a, b) => b.weight - a.weight)
    .slice(0, 4)
    .map((origin) => `“${origin.text}” ${percent(origin.weight)}`);
  const from = origins.length > 0 ? `comes from ${origins.join(", ")}` : "comes from no word in particular";
  const sure = word.confidence === null ? "" : ` Confidence ${percent(word.confidence)}.`;
  return `“${word.text}” ${word.weights ? from : "is shown without its origin"}.${sure}`;
}
