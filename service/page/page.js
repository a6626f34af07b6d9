// Joins the parts of the page: what is typed goes to the service, what comes back is shown.

import { asCurl, listModels, Problem, translate } from "./api.js";
import { copy } from "./clipboard.js";
import { byId, element } from "./dom.js";
import { fileTab } from "./file_tab.js";
import { count, duration, numCharacters } from "./format.js";
import { heatmap } from "./heatmap.js";
import { Languages } from "./languages.js";
import { Output, warningOf } from "./output.js";
import { linkedState, linkTo, showLink } from "./state_link.js";
import { tabs } from "./tabs.js";
import { wordsOf } from "./words.js";

const TYPING_MS = 150; // without a key before the text is sent
const LONG_TYPING_MS = 600; // the same for a long text, which costs more
const MAX_DETAILED = 3000; // characters; attention grows with the square of a sentence
const MAX_ALTERNATIVES = 3;
const SOON_S = 120; // longer waits are left to people
const LOADING_MS = 2000; // between looks at models that are still loading

const { maxCharacters, maxTexts, maxBodyBytes } = document.documentElement.dataset;
const limits = { maxCharacters: +maxCharacters, maxTexts: +maxTexts, maxBodyBytes: +maxBodyBytes };

const source = byId("source");
const result = byId("result");
const attention = byId("attention");
const call = byId("call");
let running = null; // AbortController of the request that may still change the page
let timer; // of the next request
let shown = ""; // the translation
let segmentShown = null;

const output = new Output(note, showAttention);
const languages = new Languages(() => edited(0));

function edited(delayMs) {
  const text = source.value;
  running?.abort(); // its answer would be one to an older text
  clearTimeout(timer);
  if (location.hash) showLink();
  output.forget();
  const number = showSource(text);
  showCall();
  timer = setTimeout(run, delayMs ?? (number > MAX_DETAILED ? LONG_TYPING_MS : TYPING_MS));
}

async function run() {
  clearTimeout(timer);
  running?.abort();
  const text = source.value;
  if (!text.trim()) {
    languages.hear(null);
    return show({ text: "" }, text);
  }
  if (!languages.ready) return; // `refreshModels` says why, and comes back here
  if (numCharacters(text) > limits.maxCharacters) {
    const limit = count(limits.maxCharacters);
    const sentence = `The text is longer than ${limit} characters. Shorten it, or translate it as a file.`;
    return complain(new Problem(sentence));
  }
  const own = (running = new AbortController());
  result.setAttribute("aria-busy", "true");
  try {
    const { pair, isSure } = await languages.detect(text, own.signal);
    if (own !== running) return;
    languages.hear(pair.source, isSure);
    showCall();
    const answer = await translate(requestFor(text), own.signal);
    if (own === running) show(answer.translations[0], text, pair);
  } catch (error) {
    if (error.name === "AbortError" || own !== running) return;
    complain(error, run);
  }
}

function requestFor(text) {
  const detailed = numCharacters(text) <= MAX_DETAILED;
  const beamSize = languages.model?.beam_size ?? 1;
  return {
    text,
    ...languages.pair,
    warnings: true,
    ...(detailed && {
      alternatives: Math.min(MAX_ALTERNATIVES, beamSize - 1),
      alignments: true,
      token_log_probs: true,
    }),
  };
}

function show(translation, text, pair = languages.pair) {
  shown = translation.text;
  const segments = wordsOf(text, translation, pair);
  byId("output").lang = pair.target;
  byId("spoken").lang = pair.target;
  result.removeAttribute("aria-busy");
  result.classList.remove("stale");
  byId("problem").hidden = true;
  output.show(shown, segments, text);
  byId("copy").disabled = byId("share").disabled = shown === "";
  showAlternatives(translation.alternatives ?? [], pair.target);
  byId("doubts").textContent = output.doubts();
  showDoubts();
  byId("warnings").textContent = warningOf(translation.warnings ?? []);
  if (shown && numCharacters(text) > MAX_DETAILED) {
    note(`Words are explained in texts of up to ${count(MAX_DETAILED)} characters.`);
  }
  showAttention(segments[0]);
}

/** Tells what went wrong and keeps all that was typed; tries again by itself where that may help. */
function complain(error, retry) {
  if (!(error instanceof Problem)) throw error;
  result.removeAttribute("aria-busy");
  result.classList.toggle("stale", shown !== "");
  const { retryAfterS: wait } = error;
  const soon = retry && wait !== null && wait <= SOON_S;
  const kept = source.value ? " Your text is kept." : "";
  const next = wait === null ? "" : ` ${soon ? "Trying" : "Try"} again in ${duration(wait)}.`;
  byId("problem").textContent = error.message + kept + next;
  byId("problem").hidden = false;
  if (soon) timer = setTimeout(retry, wait * 1000);
}

async function refreshModels() {
  try {
    const models = await listModels();
    const before = languages.model?.name;
    languages.offer(models);
    const loading = models.some((model) => model.status === "loading");
    if (loading) setTimeout(refreshModels, LOADING_MS);
    const why = loading ? "The models are still loading." : "No model could be loaded; see the service's log.";
    if (!languages.ready) throw new Problem(why);
    if (languages.model?.name !== before) run(); // one that loads meanwhile changes nothing
  } catch (error) {
    complain(error, refreshModels);
  }
}

function again() {
  byId("problem").hidden = true;
  return languages.ready ? run() : refreshModels();
}

function note(sentence) {
  byId("note").textContent = sentence;
}

/** Returns the length of the text. */
function showSource(text) {
  byId("marks").textContent = `${text}\n`;
  byId("clear").hidden = text === "";
  const number = numCharacters(text);
  byId("count").textContent = `${count(number)} / ${count(limits.maxCharacters)}`;
  byId("count").classList.toggle("over", number > limits.maxCharacters);
  return number;
}

function showAlternatives(alternatives, target) {
  const others = new Set(alternatives.map(({ text }) => text).filter((text) => text !== shown));
  const items = [...others].map((textContent) => element("li", { textContent, lang: target, dir: "auto" }));
  byId("alternatives-list").replaceChildren(...items);
  byId("alternatives").hidden = items.length === 0;
}

function showDoubts() {
  const on = byId("confidence").ariaPressed === "true";
  byId("output").classList.toggle("shaded", on);
  byId("doubts").hidden = !on || shown === "";
}

function showAttention(segment) {
  segmentShown = segment;
  const drawn = attention.open && segment?.targets.some((word) => word.weights);
  byId("attention-map").replaceChildren(...(drawn ? [heatmap(segment)] : ["Nothing to show yet."]));
}

function showCall() {
  // For people to copy: without what only this page shows.
  if (call.open) byId("curl").textContent = asCurl({ text: source.value, ...languages.pair });
}

async function copyAndSay(text, sentence) {
  try {
    await copy(text);
    note(sentence);
  } catch {
    note("The browser did not let the page copy. Select the text and press Ctrl+C.");
  }
}

function share() {
  const link = linkTo({ ...languages.choice, text: source.value });
  showLink(link);
  copyAndSay(link, "Link copied. Who has it can read the text.");
}

function swap() {
  if (!languages.canSwap()) return;
  const { source: from, target: to } = languages.pair;
  if (shown) source.value = shown;
  languages.choose(to, from);
}

function openLink() {
  const state = linkedState();
  if (!state) return;
  languages.wanted = state;
  languages.fill(state.source, state.target);
  source.value = state.text;
  showSource(state.text);
  run();
}

const clicked = {
  clear() {
    source.value = "";
    edited(0);
    source.focus();
  },
  swap,
  share,
  copy: () => copyAndSay(shown, "Copied."),
  "copy-curl": () => copyAndSay(byId("curl").textContent, "Command copied."),
  confidence({ currentTarget }) {
    currentTarget.ariaPressed = String(currentTarget.ariaPressed !== "true");
    showDoubts();
  },
};
for (const [id, act] of Object.entries(clicked)) byId(id).addEventListener("click", act);
source.addEventListener("input", () => edited());
source.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
});
document.addEventListener("keydown", (event) => {
  if (event.altKey && event.code === "KeyS") {
    event.preventDefault();
    swap();
  }
});
attention.addEventListener("toggle", () => showAttention(segmentShown));
call.addEventListener("toggle", showCall);
addEventListener("hashchange", openLink);
addEventListener("online", again);
addEventListener("key", () => {
  (byId("text-panel").hidden ? byId("stop") : source).focus();
  again();
});

tabs(document.querySelector("[role=tablist]"));
fileTab(languages, limits);
showSource(source.value);
openLink();
refreshModels();
