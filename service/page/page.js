// Joins the parts of the page: what is typed goes to the service, what comes back is shown.

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
const PAID_TYPING_MS = 1200; // with an API key: it pays for what is cancelled, too
const MAX_DETAILED = 3000; // characters; attention grows with their square
const MAX_ALTERNATIVES = 3;
const SOON_S = 120; // longer waits are left to people
const LOADING_MS = 2000;

const limits = JSON.parse(document.documentElement.dataset.limits);
const { source, result, problem, attention, call, live } = ui;
let last = {}; // the last request: `question`, `abort`, `answer`
let timer; // of the next request
let looking; // timer of the next look
let notBefore = 0; // after a failure: the service may have asked for a pause
let tooMuch = Infinity; // characters: more than the key's quota has left
let shown = ""; // the translation
let segmentShown;

const output = new Output(note, showAttention);
const languages = new Languages(() => edited(0));

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
  const text = source.value.trim();
  if (delayMs === undefined && !live.checked && text) {
    problem.hidden = true;
    return describe(null);
  }
  const pauseMs = currentKey() ? PAID_TYPING_MS : number > MAX_DETAILED ? LONG_TYPING_MS : TYPING_MS;
  const restMs = text ? notBefore - Date.now() : 0;
  if (restMs > 0 || number >= tooMuch) describe(null);
  else result.ariaBusy = "true";
  if (number < tooMuch) timer = setTimeout(run, Math.max(delayMs ?? pauseMs, restMs));
}

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
  result.ariaBusy = "true";
  try {
    const heard = await languages.detect(text, own.signal);
    if (own !== last) return;
    languages.hear(...heard);
    showCall();
    const { translations } = await translate(requestFor(text), own.signal);
    if (own !== last) return;
    own.answer = { ...translations[0], heard };
    if (notBefore) refreshModels(); // it may serve others by now
    notBefore = 0;
    tooMuch = Infinity;
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

function showAnswer() {
  if (!last.answer) return;
  languages.hear(...last.answer.heard);
  show(last.answer);
}

function show(translation) {
  const text = source.value;
  const words = text.trim();
  shown = words && text.replace(words, () => translation.text);
  const { pair, wished } = languages;
  const segments = wordsOf(text, { ...translation, text: shown });
  ui.output.lang = ui.spoken.lang = pair.target;
  problem.hidden = true;
  output.show(shown, segments, text);
  if (translation.warnings?.includes("unsure")) output.doubt(languages.model?.metrics?.calibration?.unsure_below);
  ui.copy.disabled = ui.share.disabled = shown === "";
  if (shown && numCharacters(words) > MAX_DETAILED) {
    note(`Words are explained in texts of up to ${count(MAX_DETAILED)} characters.`);
  }
  if (languages.wanted && pair.target !== wished) {
    const [from, into, other] = [pair.source, wished, pair.target].map(nameOf);
    note(`There is no model from ${from} into ${into}; ${other} is shown.`);
  }
  describe(translation, segments[0], output.doubts());
}

/** What there is to say about a translation; of one to an earlier text (null) only that. */
function describe(translation, segment, doubts = "") {
  const { alternatives = [], warnings = [], text } = translation ?? {};
  const isStale = !translation && shown !== "";
  result.ariaBusy = null;
  result.classList.toggle("stale", isStale);
  ui.stale.hidden = !isStale;
  const others = new Set(alternatives.map((other) => other.text).filter((other) => other !== text));
  const { lang } = ui.output;
  ui["alternatives-list"].replaceChildren(
    ...[...others].map((textContent) => element("li", { textContent, lang, dir: "auto" })),
  );
  ui.alternatives.hidden = others.size === 0;
  ui.warnings.textContent = warningOf(warnings, output.doubted);
  ui.doubts.textContent = doubts;
  showDoubts();
  showAttention(segment);
}

/** Tells what went wrong; tries again by itself where that may help. */
function complain(error, retry) {
  if (!(error instanceof Problem)) throw error;
  describe(null);
  const { retryAfterS: wait } = error;
  notBefore = Date.now() + wait * 1000;
  tooMuch = error.isQuota ? numCharacters(source.value) : Infinity;
  const soon = retry && wait !== null && wait <= SOON_S;
  const kept = source.value ? " Your text is kept." : "";
  const at = new Date(notBefore).toLocaleTimeString();
  const next = soon ? ` Trying again at ${at}.` : ` Try again in ${duration(wait)}.`;
  problem.textContent = error.message + kept + (wait === null ? "" : next);
  problem.hidden = false;
  if (soon) timer = setTimeout(retry, wait * 1000);
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
    if (!languages.ready) complain(error, refreshModels);
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

/** As if it were typed, which can be undone. */
function setSource(text) {
  const before = document.activeElement;
  source.focus();
  source.select();
  if (document.activeElement !== source) source.value = text; // it is hidden
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
    copyAndSay(link, "Link copied. Who has it can read the text.");
  },
  copy: () => copyAndSay(shown, ui.stale.hidden ? "Copied." : "Copied; it is of an earlier text."),
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
