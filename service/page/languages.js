// The two language lists, filled with what is served, and the swap between them.

const REMEMBERED = "languages";

export class Languages {
  constructor({ source, target, swap, changed }) {
    Object.assign(this, { source, target, swap, changed });
    this.models = [];
    this.wanted = remembered(); // chosen here earlier, or by a link
    source.addEventListener("change", () => this.choose(source.value, target.value));
    target.addEventListener("change", () => this.choose(source.value, target.value));
  }

  /** The models that are ready; keeps the choice if it is still there. */
  offer(models) {
    this.models = models.filter((model) => model.status === "ready");
    this.fill(this.wanted?.source, this.wanted?.target);
  }

  choose(source, target) {
    this.wanted = { source, target };
    this.fill(source, target);
    try {
      localStorage.setItem(REMEMBERED, JSON.stringify(this.pair));
    } catch {
      // storage is switched off: nothing is remembered
    }
    this.changed();
  }

  fill(source, target) {
    const sources = unique(this.models.map((model) => model.source));
    list(this.source, sources, source);
    const targets = unique(
      this.models.filter((model) => model.source === this.source.value).map((model) => model.target),
    );
    list(this.target, targets, target);
    this.swap.disabled = !this.canSwap();
  }

  get pair() {
    return { source: this.source.value, target: this.target.value };
  }

  get ready() {
    return this.models.length > 0;
  }

  /** The first model of the pair, which is the one that the service takes. */
  get model() {
    const { source, target } = this.pair;
    return this.models.find((model) => model.source === source && model.target === target);
  }

  canSwap() {
    const { source, target } = this.pair;
    return this.models.some((model) => model.source === target && model.target === source);
  }
}

function list(select, codes, wanted) {
  const options = codes.map((code) => new Option(nameOf(code), code));
  select.replaceChildren(...options);
  const own = codes.find((code) => code === navigator.language.split("-")[0]);
  select.value = codes.includes(wanted) ? wanted : (own ?? codes[0] ?? "");
  select.disabled = codes.length === 0;
}

function nameOf(code) {
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(code) ?? code;
  } catch {
    return code; // not a tag this browser knows
  }
}

function unique(codes) {
  return [...new Set(codes)].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(REMEMBERED));
  } catch {
    return null;
  }
}
