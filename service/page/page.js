// Connects the parts of the page: sends the typed text to the service and shows the answer.

import { asCurl, listModels, Problem, translate } from "./api.js";
import { count, duration, element, numCharacters, ui } from "./dom.js";
import { fileTab } from "./file_tab.js";
import { currentKey } from "./key.js";
import { Languages, nameOf } from "./languages.js";
import { copy, keep, linkedState, recall, showLink } from "./memory.js";
import { heatmap, Output, warningOf } from "./output.js";
import "./tabs.js";
import { wordsOf } from "./words.js";

const TYPING_MS = 150; // without a keystroke before the text is sent
const LONG_TYPING_MS = 600;
const PAID_TYPING_MS = 1200; // with an API key, whose quota is charged for cancelled requests too
const MAX_DETAILED = 3000; // characters; the size of the attention grows with their square
const MAX_ALTERNATIVES = 3;
const MAX_RETRY_S = 120; // after longer waits the page does not retry by itself
const LOADING_MS = 2000; // between requests for the models while some are loading

const limits = JSON.parse(document.documentElement.dataset.limits);
const { source, result, problem, attention, call, live } = ui;
let last = {}; // the last request: `question`, `abort`, `answer`
let timer; // of the next request to translate
let modelsTimer; // of the next request for the models
let notBefore = 0; // time of the next request after a failure, as Retry-After says
let refusedLength = Infinity; // characters of a text that exceeded the key's quota
let shown = ""; // the translation on the page
let segmentShown; // in the attention map

const output = new Output(note, showAttention);
const languages = new Languages(() => edited(0));

function question() {
  return JSON.stringify([source.value.trim(), languages.choice]);
}

function edited(delayMs) {
  clearTimeout(timer);
  if (location.hash) showLink();
  output.clearMarks();
  const number = showSource();
  showCall();
  if (last.question === question()) return showAnswer();
  drop();
  const text = source.value.trim();
  if (delayMs === undefined && !live.checked && text) {
    problem.hidden = true;
    return describe(null);
  }
  const pauseMs = currentKey() ? PAID_TYPING_MS : number > MAX_DETAILED ? LONG_TYPING_MS : TYPING_MS;
  const restMs = text ? notBefore - Date.now() : 0;
  if (restMs > 0 || number >= refusedLength) describe(null);
  else result.ariaBusy = "true";
  if (number < refusedLength) timer = setTimeout(run, Math.max(delayMs ?? pauseMs, restMs));
}

function drop() {
  if (last.answer) return;
  last.abort?.();
  last = {};
}

async function run() {
  clearTimeout(timer);
  if (!languages.ready) return refreshModels(); // it calls `run` when a model is ready
  if (last.question === question()) return showAnswer();
  drop();
  const text = source.value.trim();
  if (!text) {
    languages.showDetected(null);
    return show({ text });
  }
  if (numCharacters(source.value) > limits.maxCharacters) {
    const limit = count(limits.maxCharacters);
    return showProblem(new Problem(`The text is longer than ${limit} characters. Shorten it, or translate it as a file.`));
  }
  const own = (last = new AbortController());
  own.question = question();
  result.ariaBusy = "true";
  try {
    const detected = await languages.detect(text, own.signal);
    if (own !== last) return;
    languages.showDetected(...detected);
    showCall();
    const { translations } = await translate(requestFor(text), own.signal);
    if (own !== last) return;
    own.answer = { ...translations[0], detected };
    if (notBefore) refreshModels(); // after a failure the service may have other models
    notBefore = 0;
    refusedLength = Infinity;
    showAnswer();
  } catch (error) {
    if (error.name === "AbortError" || own !== last) return;
    last = {};
    showProblem(error, run);
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

function showAnswer() {
  if (!last.answer) return;
  languages.showDetected(...last.answer.detected);
  show(last.answer);
}

function show(translation) {
  const text = source.value;
  const words = text.trim();
  shown = words && text.replace(words, () => translation.text);
  const { pair, chosenTarget } = languages;
  const segments = wordsOf(text, { ...translation, text: shown });
  ui.output.lang = ui.spoken.lang = pair.target;
  problem.hidden = true;
  output.show(shown, segments, text);
  if (translation.warnings?.includes("unsure")) output.markUnsure(languages.model?.metrics?.calibration?.unsure_below);
  ui.copy.disabled = ui.share.disabled = shown === "";
  if (shown && numCharacters(words) > MAX_DETAILED) {
    note(`Details of words are shown for texts of up to ${count(MAX_DETAILED)} characters.`);
  }
  if (languages.wanted && pair.target !== chosenTarget) {
    const [from, into, other] = [pair.source, chosenTarget, pair.target].map(nameOf);
    note(`There is no model from ${from} into ${into}; ${other} is shown.`);
  }
  describe(translation, segments[0], output.confidenceSentence());
}

/** Shows alternatives, warnings and attention; null: the translation is of an earlier text. */
function describe(translation, segment, doubts = "") {
  const { alternatives = [], warnings = [], text } = translation ?? {};
  const isStale = !translation && shown !== "";
  result.ariaBusy = null;
  result.classList.toggle("stale", isStale);
  ui.stale.hidden = !isStale;
  const others = new Set(alternatives.map((other) => other.text));
  others.delete(text);
  const { lang } = ui.output;
  ui["alternatives-list"].replaceChildren(
    ...[...others].map((textContent) => element("li", { textContent, lang, dir: "auto" })),
  );
  ui.alternatives.hidden = others.size === 0;
  ui.warnings.textContent = warningOf(warnings, output.unsureWords);
  ui.doubts.textContent = doubts;
  showDoubts();
  showAttention(segment);
}

/** Shows an error; calls `retry` after a while if that may help. */
function showProblem(error, retry) {
  if (!(error instanceof Problem)) throw error;
  describe(null);
  const { retryAfterS: wait } = error;
  notBefore = Date.now() + wait * 1000;
  refusedLength = error.isQuota ? numCharacters(source.value) : Infinity;
  const willRetry = retry && wait !== null && wait <= MAX_RETRY_S;
  const kept = source.value ? " Your text is kept." : "";
  const at = new Date(notBefore).toLocaleTimeString();
  const next = willRetry ? ` Trying again at ${at}.` : ` Try again in ${duration(wait)}.`;
  problem.textContent = error.message + kept + (wait === null ? "" : next);
  problem.hidden = false;
  if (willRetry) timer = setTimeout(retry, wait * 1000);
}

async function refreshModels() {
  clearTimeout(modelsTimer);
  try {
    const models = await listModels();
    const before = languages.model?.name;
    languages.setModels(models);
    const loading = models.some((model) => model.status === "loading");
    if (loading) modelsTimer = setTimeout(refreshModels, LOADING_MS);
    const why = loading ? "The models are still loading." : "No model could be loaded; see the service's log.";
    if (!languages.ready) throw new Problem(why);
    if (languages.model?.name !== before) run(); // other models do not concern this text
  } catch (error) {
    if (!languages.ready) showProblem(error, refreshModels);
  }
}

function note(sentence) {
  ui.note.textContent = sentence;
}

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

/** Sets the text as if it were typed, so that it can be undone. */
function setSource(text) {
  const before = document.activeElement;
  source.focus();
  source.select();
  if (document.activeElement !== source) source.value = text; // the text tab is hidden
  else document.execCommand(text ? "insertText" : "delete", false, text);
  before.focus();
}

const clicked = {
  clear() {
    setSource("");
    edited(0);
    source.focus();
  },
  translate: run,
  swap() {
    if (!languages.canSwap) return;
    const { source: from, target: to } = languages.pair;
    if (last.answer && last.question === question()) setSource(shown);
    languages.choose(to, from);
  },
  share() {
    const link = showLink({ ...languages.choice, target: languages.pair.target, text: source.value });
    copyAndSay(link, "Link copied. Anyone with the link can read the text.");
  },
  copy: () => copyAndSay(shown, ui.stale.hidden ? "Copied." : "Copied the translation of an earlier text."),
  "copy-curl": () => copyAndSay(ui.curl.textContent, "Command copied."),
  confidence({ currentTarget }) {
    currentTarget.ariaPressed = currentTarget.ariaPressed !== "true";
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
live.checked = recall("localStorage", live.id) ?? true;
live.onchange = () => {
  keep("localStorage", live.id, live.checked);
  edited(live.checked ? 0 : undefined);
};
attention.ontoggle = () => showAttention(segmentShown);
call.ontoggle = showCall;
window.onhashchange = openLink;
window.ononline = run;
addEventListener("key", () => {
  const inFiles = ui.stop.checkVisibility() ? ui.stop : ui.file;
  (ui["text-panel"].hidden ? inFiles : source).focus();
  problem.hidden = true;
  run();
});

fileTab(languages, limits);
showSource();
openLink();
refreshModels();
