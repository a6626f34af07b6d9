// The two language lists, filled with what is served, detection, and the swap between them.

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
  wanted = recall("localStorage", REMEMBERED); // chosen here earlier, or by a link
  heard = null; // the language found in the text; see `hear`

  constructor(changed) {
    this.changed = changed;
    for (const list of [this.source, this.target]) {
      list.onchange = () => this.choose(this.source.value, this.target.value);
    }
    addEventListener("tab", () => this.hear(this.heard, this.isSure));
  }

  offer(models) {
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
    this.wished = this.target.value; // detection may find a language that has no model to it
    this.hear(this.heard, this.isSure);
  }

  get isAuto() {
    return this.source.value === AUTO;
  }

  /** What people chose: `auto`, too. */
  get choice() {
    return { source: this.source.value, target: this.wished };
  }

  /** What the service is asked for: the languages there are. */
  get pair() {
    return this.isAuto ? this.pairFrom(this.heard) : this.choice;
  }

  get ready() {
    return this.models.length > 0;
  }

  /** The first, as the service takes it. */
  modelOf({ source, target }) {
    return this.models.find((model) => model.source === source && model.target === target);
  }

  get model() {
    return this.modelOf(this.pair);
  }

  get canSwap() {
    return this.modelOf({ source: this.pair.target, target: this.pair.source });
  }

  /** The language of `text`, and whether that is sure. */
  async detect(text, signal) {
    if (!this.isAuto || !text) return [this.pair.source, true];
    const [guess] = await detect(text, signal);
    const { language, confidence } = guess ?? {};
    return [confidence > 0 ? language : this.pairFrom(this.heard).source, confidence >= SURE];
  }

  /** Shows the language of a text; null for none. */
  hear(source, isSure) {
    Object.assign(this, { heard: source, isSure });
    const found = this.isAuto && !ui["text-panel"].hidden && source; // a file has its own
    const label = found && `${nameOf(source)}, ${isSure ? "detected" : "assumed"}`;
    if (this.isAuto) {
      this.source.selectedOptions[0].textContent = label || nameOf(AUTO);
      this.target.value = found ? this.pair.target : this.wished;
    }
    ui.detected.textContent = found ? `${label}; into ${nameOf(this.pair.target)}` : "";
    ui.swap.disabled = !this.canSwap;
  }

  /** From `source`, or from any language, to the one wished for; else to one there is. */
  pairFrom(source) {
    const from = source ?? this.models.find((model) => model.target === this.wished)?.source;
    const targets = this.targetsOf(from);
    return { source: from, target: targets.includes(this.wished) ? this.wished : targets[0] ?? this.wished };
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
    return code; // no tag
  }
}

function unique(codes) {
  return [...new Set(codes)].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
}
