// The translation as words to point at: what each came from, and how sure the model was.

import { element, percent, ui } from "./dom.js";

const SHOWN_FROM = 0.05; // less attention is noise to a reader
const MOST_NAMED = 3; // words that a warning names
const NUMBER_FROM = 0.1; // smaller shares are only coloured; a screen reader gets all

const SIGNS = {
  copied: "it is your text, unchanged",
  loop: "it repeats itself",
  cut: "its end may be missing",
  too_short: "it is much shorter than your text",
  too_long: "it is much longer than your text",
  numbers: "its numbers are not those of your text",
};

/** The signs of a bad translation as a sentence; `doubted` are the words that `unsure` is about. */
export function warningOf(signs, doubted) {
  const reasons = signs.map((sign) => (sign === "unsure" ? unsureOf(doubted) : (SIGNS[sign] ?? sign)));
  return signs.length > 0 ? `Worth a second look: ${reasons.join("; ")}.` : "";
}

function unsureOf(doubted) {
  const named = doubted.slice(0, MOST_NAMED).map(({ text }) => `“${text}”`);
  if (named.length === 0) return "the model was unsure of a word"; // words of long texts are not known
  return `the model was unsure of ${named.join(", ")}${doubted.length > MOST_NAMED ? " and more" : ""}`;
}

export class Output {
  box = ui.output;
  words = [];
  doubted = []; // those that a warning is about
  source = null; // the text that `words` translate
  chosen = null;

  /** `explain` tells in words what colours show. */
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
    this.doubted = [];
    this.words = segments.flatMap((segment) =>
      segment.targets.map((word) => ({ ...word, segment, element: wordElement(word) })),
    );
    this.box.replaceChildren(...among(text, this.words));
    if (this.words.length > 0) this.words[0].element.tabIndex = 0;
    const spoken = text.trim();
    if (ui.spoken.textContent !== spoken) ui.spoken.textContent = spoken; // not read twice
    this.mark();
    this.explain("");
  }

  /** Marks the words below the model's bound of confidence, or else the one it was least sure of. */
  doubt(bound = 0) {
    const known = this.words.filter(({ confidence }) => confidence !== null);
    const least = known.reduce((smallest, { confidence }) => Math.min(smallest, confidence), 1);
    this.doubted = known.filter(({ confidence }) => confidence < bound || confidence === least);
    for (const { element } of this.doubted) element.classList.add("doubted");
  }

  doubts() {
    const doubted = this.words.filter(({ confidence }) => confidence !== null && level(confidence) !== "sure");
    if (this.words.every(({ confidence }) => confidence === null)) return "There is no confidence for this text.";
    if (doubted.length === 0) return "The model was sure of every word.";
    const named = doubted.slice(0, 12).map((word) => `“${word.text}” ${percent(word.confidence)}`);
    return `Less sure: ${named.join(", ")}${doubted[12] ? " …" : "."}`;
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

  /** Paints where `word` came from on the mirror behind the text area. */
  mark(word) {
    if (this.source === null) return;
    const origins = originsOf(word).map((origin) => {
      const mark = element("mark", { textContent: this.source.slice(origin.start, origin.end) });
      mark.style.setProperty("--weight", origin.weight);
      return { ...origin, element: mark };
    });
    ui.marks.replaceChildren(...among(this.source, origins), "\n"); // else an empty last line has no height
  }
}

/** `text` with elements in the places of their words. */
function among(text, words) {
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
    .filter(({ weight }) => weight >= SHOWN_FROM);
}

function sentence(word) {
  const origins = originsOf(word)
    .sort((a, b) => b.weight - a.weight)
    .slice(0, 4)
    .map((origin) => `“${origin.text}” ${percent(origin.weight)}`);
  const from = `comes from ${origins.join(", ") || "no word in particular"}`;
  const sure = word.confidence === null ? "" : ` Confidence ${percent(word.confidence)}.`;
  return `“${word.text}” ${word.weights ? from : "is shown without its origin"}.${sure}`;
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
  const className = weight < NUMBER_FROM ? "unseen" : "";
  box.append(element("span", { textContent: Math.round(weight * 100), className }));
  return box;
}
