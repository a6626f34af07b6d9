// The two lists of languages with the served models, the detected language, and the swap button.

import { detect } from "./api.js";
import { ui } from "./dom.js";
import { keep, recall } from "./memory.js";

const REMEMBERED = "languages";
const AUTO = "auto";
const SURE = 90; // percent

export class Languages {
  source = ui["source-language"];
  target = ui["target-language"];
  models = [];
  wanted = recall("localStorage", REMEMBERED); // chosen earlier in this browser, or by a link
  detected = null; // the language of the text; see `showDetected`

  constructor(changed) {
    this.changed = changed;
    for (const list of [this.source, this.target]) {
      list.onchange = () => this.choose(this.source.value, this.target.value);
    }
    addEventListener("tab", () => this.showDetected(this.detected, this.isSure));
  }

  setModels(models) {
    this.models = models.filter((model) => model.status === "ready");
    this.fill(this.wanted?.source, this.wanted?.target);
  }

  choose(source, target) {
    this.wanted = { source, target };
    this.fill(source, target);
    keep("localStorage", REMEMBERED, this.choice);
    this.changed();
  }

  fill(source, target) {
    const sources = unique(this.models.map((model) => model.source));
    list(this.source, sources.length > 1 ? [AUTO, ...sources] : sources, source);
    list(this.target, this.targetsOf(this.isAuto ? null : this.source.value), target);
    this.chosenTarget = this.target.value; // the list may show another; see `showDetected`
    this.showDetected(this.detected, this.isSure);
  }

  get isAuto() {
    return this.source.value === AUTO;
  }

  /** The chosen languages; the source may be `auto`. */
  get choice() {
    return { source: this.source.value, target: this.chosenTarget };
  }

  /** The languages to translate between, with the detected source in place of `auto`. */
  get pair() {
    return this.isAuto ? this.pairFrom(this.detected) : this.choice;
  }

  get ready() {
    return this.models.length > 0;
  }

  /** The first model between these languages, which is also the one that the service takes. */
  modelOf({ source, target }) {
    return this.models.find((model) => model.source === source && model.target === target);
  }

  get model() {
    return this.modelOf(this.pair);
  }

  get canSwap() {
    return this.modelOf({ source: this.pair.target, target: this.pair.source });
  }

  /** The language of `text`, and whether the detection is sure. */
  async detect(text, signal) {
    if (!this.isAuto || !text) return [this.pair.source, true];
    const [guess] = await detect(text, signal);
    const { language, confidence } = guess ?? {};
    return [confidence > 0 ? language : this.pairFrom(this.detected).source, confidence >= SURE];
  }

  /**
   * Shows the detected language of the text; null if there is none. If no model translates from it
   * into the chosen target, the target list shows another target.
   */
  showDetected(source, isSure) {
    Object.assign(this, { detected: source, isSure });
    const isShown = this.isAuto && !ui["text-panel"].hidden && source; // not of a file
    const label = isShown && `${nameOf(source)}, ${isSure ? "detected" : "assumed"}`;
    if (this.isAuto) {
      this.source.selectedOptions[0].textContent = label || nameOf(AUTO);
      this.target.value = isShown ? this.pair.target : this.chosenTarget;
    }
    ui.detected.textContent = isShown ? `${label}; into ${nameOf(this.pair.target)}` : "";
    ui.swap.disabled = !this.canSwap;
  }

  /** From `source` (or any language, if null) into the chosen target, or another that is served. */
  pairFrom(source) {
    const { chosenTarget } = this;
    const from = source ?? this.models.find((model) => model.target === chosenTarget)?.source;
    const targets = this.targetsOf(from);
    return { source: from, target: targets.includes(chosenTarget) ? chosenTarget : targets[0] ?? chosenTarget };
  }

  targetsOf(source) {
    return unique(this.models.filter((model) => !source || model.source === source).map((model) => model.target));
  }
}

function list(select, codes, wanted) {
  const options = codes.map((code) => new Option(nameOf(code), code));
  select.replaceChildren(...options);
  const own = codes.find((code) => [AUTO, navigator.language.split("-")[0]].includes(code));
  select.value = codes.includes(wanted) ? wanted : (own ?? codes[0] ?? "");
  select.disabled = codes.length === 0;
}

export function nameOf(code) {
  if (code === AUTO) return "Detect language";
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(code) ?? code;
  } catch {
    return code; // not a language tag
  }
}

function unique(codes) {
  return [...new Set(codes)].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
}
