// Joins the parts of the page: what is typed goes to the service, what comes back is shown.

import { asCurl, listModels, Problem, translate } from "./api.js";
import { count, duration, element, numCharacters, ui } from "./dom.js";
import { fileTab } from "./file_tab.js";
import { currentKey } from "./key.js";
import { Languages } from "./languages.js";
import { copy, keep, linkedState, recall, showLink } from "./memory.js";
import { heatmap, Output, warningOf } from "./output.js";
import "./tabs.js";
import { wordsOf } from "./words.js";

const TYPING_MS = 150; // without a keystroke before the text is sent
const LONG_TYPING_MS = 600; // for long texts, which cost more
const PAID_TYPING_MS = 1200; // with an API key: it pays for what is cancelled, too
const MAX_DETAILED = 3000; // characters; attention grows with the square of a sentence
const MAX_ALTERNATIVES = 3;
const SOON_S = 120; // longer waits are left to people
const LOADING_MS = 2000; // between looks at models that are still loading

const limits = JSON.parse(document.documentElement.dataset.limits);
const { source, result, problem, attention, call, live } = ui;
let last = {}; // the last request: `question`, `abort`, `answer`
let timer; // of the next request
let looking; // timer of the next look at the models
let notBefore = 0; // the service asked for a pause
let shown = ""; // the translation
let segmentShown;

const output = new Output(note, showAttention);
const languages = new Languages(() => edited(0));

/** What is asked; blanks around it stay here. */
function question() {
  return JSON.stringify([source.value.trim(), languages.choice]);
}

function edited(delayMs) {
  clearTimeout(timer);
  if (location.hash) showLink();
  output.forget();
  const number = showSource();
  showCall();
  if (last.question === question()) return showAnswer();
  drop();
  if (delayMs === undefined && !live.checked && source.value.trim()) {
    problem.hidden = true;
    return describe(null);
  }
  const pauseMs = currentKey() ? PAID_TYPING_MS : number > MAX_DETAILED ? LONG_TYPING_MS : TYPING_MS;
  timer = setTimeout(run, delayMs ?? Math.max(pauseMs, notBefore - Date.now()));
}

/** An answer on its way would be one to an older text. */
function drop() {
  if (last.answer) return;
  last.abort?.();
  last = {};
}

async function run() {
  clearTimeout(timer);
  if (!languages.ready) return refreshModels(); // which comes back here
  if (last.question === question()) return showAnswer();
  drop();
  const text = source.value.trim();
  if (!text) {
    languages.hear(null);
    return show({ text });
  }
  if (numCharacters(source.value) > limits.maxCharacters) {
    const limit = count(limits.maxCharacters);
    return complain(new Problem(`The text is longer than ${limit} characters. Shorten it, or translate it as a file.`));
  }
  const own = (last = new AbortController());
  own.question = question();
  result.setAttribute("aria-busy", "true");
  try {
    const heard = await languages.detect(text, own.signal);
    if (own !== last) return;
    languages.hear(...heard);
    showCall();
    const { translations } = await translate(requestFor(text), own.signal);
    if (own !== last) return;
    own.answer = { ...translations[0], heard };
    showAnswer();
  } catch (error) {
    if (error.name === "AbortError" || own !== last) return;
    last = {};
    complain(error, run);
  }
}

function requestFor(text) {
  return {
    text,
    ...languages.pair,
    warnings: true,
    ...(numCharacters(text) <= MAX_DETAILED && {
      alternatives: Math.min(MAX_ALTERNATIVES, (languages.model?.beam_size ?? 1) - 1),
      alignments: true,
      token_log_probs: true,
    }),
  };
}

/** Unless it is still to come. */
function showAnswer() {
  if (!last.answer) return;
  languages.hear(...last.answer.heard);
  show(last.answer);
}

function show(translation) {
  const text = source.value;
  const words = text.trim();
  shown = words && text.replace(words, () => translation.text);
  const segments = wordsOf(text, { ...translation, text: shown }, languages.pair);
  ui.output.lang = ui.spoken.lang = languages.pair.target;
  problem.hidden = true;
  notBefore = 0;
  output.show(shown, segments, text);
  ui.copy.disabled = ui.share.disabled = shown === "";
  if (shown && numCharacters(words) > MAX_DETAILED) {
    note(`Words are explained in texts of up to ${count(MAX_DETAILED)} characters.`);
  }
  describe(translation, segments[0], output.doubts());
}

/** What there is to say about a translation; of one to an earlier text (null) only that. */
function describe(translation, segment, doubts = "") {
  const { alternatives = [], warnings = [], text } = translation ?? {};
  const isStale = !translation && shown !== "";
  result.removeAttribute("aria-busy");
  result.classList.toggle("stale", isStale);
  ui.stale.hidden = !isStale;
  const others = new Set(alternatives.map((other) => other.text).filter((other) => other !== text));
  const { lang } = ui.output;
  ui["alternatives-list"].replaceChildren(
    ...[...others].map((textContent) => element("li", { textContent, lang, dir: "auto" })),
  );
  ui.alternatives.hidden = others.size === 0;
  ui.warnings.textContent = warningOf(warnings);
  ui.doubts.textContent = doubts;
  showDoubts();
  showAttention(segment);
}

/** Tells what went wrong and keeps all that was typed; tries again by itself where that may help. */
function complain(error, retry) {
  if (!(error instanceof Problem)) throw error;
  describe(null);
  const { retryAfterS: wait } = error;
  const soon = retry && wait !== null && wait <= SOON_S;
  const kept = source.value ? " Your text is kept." : "";
  const next = wait === null ? "" : ` ${soon ? "Trying" : "Try"} again in ${duration(wait)}.`;
  problem.textContent = error.message + kept + next;
  problem.hidden = false;
  if (!soon) return;
  notBefore = Date.now() + wait * 1000;
  timer = setTimeout(retry, wait * 1000);
}

async function refreshModels() {
  clearTimeout(looking);
  try {
    const models = await listModels();
    const before = languages.model?.name;
    languages.offer(models);
    const loading = models.some((model) => model.status === "loading");
    if (loading) looking = setTimeout(refreshModels, LOADING_MS);
    const why = loading ? "The models are still loading." : "No model could be loaded; see the service's log.";
    if (!languages.ready) throw new Problem(why);
    if (languages.model?.name !== before) run(); // one that loads meanwhile changes nothing
  } catch (error) {
    complain(error, refreshModels);
  }
}

function again() {
  problem.hidden = true;
  return run();
}

function note(sentence) {
  ui.note.textContent = sentence;
}

/** Returns the length of the text. */
function showSource() {
  const text = source.value;
  const number = numCharacters(text);
  ui.marks.textContent = `${text}\n`;
  ui.clear.hidden = text === "";
  ui.count.textContent = `${count(number)} / ${count(limits.maxCharacters)}`;
  ui.count.classList.toggle("over", number > limits.maxCharacters);
  return number;
}

function showDoubts() {
  const on = ui.confidence.ariaPressed === "true";
  ui.output.classList.toggle("shaded", on);
  ui.doubts.hidden = !on || shown === "";
}

function showAttention(segment) {
  segmentShown = segment;
  const drawn = attention.open && segment?.targets.some((word) => word.weights);
  ui["attention-map"].replaceChildren(...(drawn ? [heatmap(segment)] : ["Nothing to show yet."]));
}

/** For people to copy: without what only this page shows. */
function showCall() {
  if (call.open) ui.curl.textContent = asCurl({ text: source.value, ...languages.pair });
}

async function copyAndSay(text, sentence) {
  try {
    await copy(text);
    note(sentence);
  } catch {
    note("The browser did not let the page copy. Select the text and press Ctrl+C.");
  }
}

function openLink() {
  const state = linkedState();
  if (!state) return;
  languages.wanted = state;
  languages.fill(state.source, state.target);
  source.value = state.text;
  showSource();
  if (languages.ready) run();
}

const clicked = {
  clear() {
    source.value = "";
    edited(0);
    source.focus();
  },
  translate: run,
  swap() {
    if (!languages.canSwap) return;
    const { source: from, target: to } = languages.pair;
    if (last.answer && last.question === question()) source.value = shown;
    languages.choose(to, from);
  },
  share() {
    const link = showLink({ ...languages.choice, text: source.value });
    copyAndSay(link, "Link copied. Who has it can read the text.");
  },
  copy: () => copyAndSay(shown, "Copied."),
  "copy-curl": () => copyAndSay(ui.curl.textContent, "Command copied."),
  confidence({ currentTarget }) {
    currentTarget.ariaPressed = String(currentTarget.ariaPressed !== "true");
    showDoubts();
  },
};
for (const [id, act] of Object.entries(clicked)) ui[id].onclick = act;
source.oninput = () => edited();
document.onkeydown = (event) => {
  if (event.altKey && event.code === "KeyS") clicked.swap();
  else if (event.target === source && event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
  else return;
  event.preventDefault();
};
live.checked = recall("localStorage", live.id) !== "false";
live.onchange = () => {
  keep("localStorage", live.id, live.checked);
  edited(live.checked ? 0 : undefined);
};
attention.ontoggle = () => showAttention(segmentShown);
call.ontoggle = showCall;
window.onhashchange = openLink;
window.ononline = again;
addEventListener("key", () => {
  const inFiles = ui.stop.checkVisibility() ? ui.stop : ui.file;
  (ui["text-panel"].hidden ? inFiles : source).focus();
  again();
});

fileTab(languages, limits);
showSource();
openLink();
refreshModels();
