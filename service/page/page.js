// Joins the parts of the page: what is typed goes to the service, what comes back is shown.

import { asCurl, listModels, Problem, translate } from "./api.js";
import { copy } from "./clipboard.js";
import { fileTab } from "./file_tab.js";
import { count, numCharacters } from "./format.js";
import { heatmap } from "./heatmap.js";
import { Languages } from "./languages.js";
import { Output } from "./output.js";
import { dropLink, linkedState, linkTo, showLink } from "./state_link.js";
import { tabs } from "./tabs.js";
import { wordsOf } from "./words.js";

const TYPING_MS = 150; // without a key before the text is sent
const LONG_TYPING_MS = 600; // the same for a long text, which costs more
const MAX_DETAILED = 3000; // characters; attention grows with the square of a sentence
const MAX_ALTERNATIVES = 3;
const LOADING_MS = 2000; // between looks at models that are still loading
const LONG_LINK = 2000; // characters; past them some programs cut a link

const byId = (id) => document.getElementById(id);
const limits = {
  maxCharacters: Number(document.documentElement.dataset.maxCharacters),
  maxTexts: Number(document.documentElement.dataset.maxTexts),
  maxBodyBytes: Number(document.documentElement.dataset.maxBodyBytes),
};

const source = byId("source");
const result = byId("result");
const attention = byId("attention");
const call = byId("call");
let running = null; // AbortController of the request that may still change the page
let timer = 0; // of the next request
let shown = { text: "", segments: [] };
let segmentShown = null;

const output = new Output({
  box: byId("output"),
  spoken: byId("spoken"),
  marks: byId("marks"),
  explain: note,
  segmentChosen: showAttention,
});
const languages = new Languages({
  source: byId("source-language"),
  target: byId("target-language"),
  swap: byId("swap"),
  changed: () => edited(0),
});

// ---- from typing to a translation ----

function edited(delayMs) {
  const text = source.value;
  running?.abort(); // its answer would be one to an older text
  clearTimeout(timer);
  dropLink();
  output.forget();
  byId("marks").textContent = `${text}\n`;
  byId("clear").hidden = text === "";
  const number = showCount(text);
  showCall();
  timer = setTimeout(run, delayMs ?? (number > MAX_DETAILED ? LONG_TYPING_MS : TYPING_MS));
}

async function run() {
  clearTimeout(timer);
  running?.abort();
  const text = source.value;
  if (!text.trim()) return show({ text: "" }, text);
  if (!languages.ready) return; // `refreshModels` says why, and comes back here
  if (numCharacters(text) > limits.maxCharacters) {
    return complain(
      new Problem(
        `The text is longer than ${count(limits.maxCharacters)} characters, which is the limit. ` +
          "Shorten it, or translate it as a file.",
      ),
    );
  }
  const own = (running = new AbortController());
  const pair = languages.pair;
  result.setAttribute("aria-busy", "true");
  try {
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
    ...(detailed && {
      alternatives: Math.min(MAX_ALTERNATIVES, beamSize - 1),
      alignments: true,
      token_log_probs: true,
    }),
  };
}

function show(translation, text, pair = languages.pair) {
  shown = { text: translation.text, segments: wordsOf(text, translation, pair) };
  byId("output").lang = pair.target;
  byId("spoken").lang = pair.target;
  result.removeAttribute("aria-busy");
  result.classList.remove("stale");
  byId("problem").hidden = true;
  output.show(shown.text, shown.segments, text);
  byId("copy").disabled = byId("share").disabled = shown.text === "";
  showAlternatives(translation.alternatives ?? [], pair.target);
  byId("doubts").textContent = output.doubts();
  showDoubts();
  if (translation.truncated) {
    note("The model met its length limit: the end of the text may be missing.");
  } else if (shown.text && numCharacters(text) > MAX_DETAILED) {
    note(`Words are explained in texts of up to ${count(MAX_DETAILED)} characters.`);
  }
  showAttention(shown.segments[0]);
}

/** Tells what went wrong and keeps all that was typed; tries again by itself where that may help. */
function complain(error, again) {
  if (!(error instanceof Problem)) throw error;
  result.removeAttribute("aria-busy");
  result.classList.toggle("stale", shown.text !== "");
  const wait = again ? error.retryAfterS : null;
  const kept = source.value ? " Your text is kept." : "";
  const next = wait === null ? "" : ` Trying again in ${count(wait)} s.`;
  byId("problem").textContent = error.message + kept + next;
  byId("problem").hidden = false;
  if (wait !== null) timer = setTimeout(again, wait * 1000);
}

async function refreshModels() {
  let models;
  try {
    models = await listModels();
  } catch (error) {
    return complain(error, refreshModels);
  }
  const before = languages.model?.name;
  languages.offer(models);
  const loading = models.some((model) => model.status === "loading");
  if (languages.ready) {
    if (languages.model.name !== before) run(); // one that loads meanwhile changes nothing
  } else {
    const why = loading ? "The models are still loading." : "No model could be loaded; the service's log says why.";
    complain(new Problem(why));
  }
  if (loading) setTimeout(refreshModels, LOADING_MS);
}

// ---- what surrounds the two boxes ----

function note(sentence) {
  byId("note").textContent = sentence;
}

function showCount(text) {
  const number = numCharacters(text);
  const element = byId("count");
  element.textContent = `${count(number)} / ${count(limits.maxCharacters)}`;
  element.classList.toggle("over", number > limits.maxCharacters);
  return number;
}

function showAlternatives(alternatives, target) {
  const others = new Set(alternatives.map(({ text }) => text));
  others.delete(shown.text);
  const items = [...others].map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    item.lang = target;
    item.dir = "auto";
    return item;
  });
  byId("alternatives-list").replaceChildren(...items);
  byId("alternatives").hidden = items.length === 0;
}

function showDoubts() {
  const on = byId("confidence").getAttribute("aria-pressed") === "true";
  byId("output").classList.toggle("shaded", on);
  byId("doubts").hidden = !on || shown.text === "";
}

function showAttention(segment) {
  segmentShown = segment;
  const drawn = attention.open && segment?.targets.some((word) => word.weights);
  byId("attention-map").replaceChildren(...(drawn ? [heatmap(segment)] : ["Nothing to show yet."]));
}

function showCall() {
  // A line for people to copy: the languages and the text, without what only this page shows.
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
  const link = linkTo({ ...languages.pair, text: source.value });
  showLink(link);
  const long = link.length > LONG_LINK ? " It is long: some programs may cut it." : "";
  copyAndSay(link, `Link copied. Who has it can read the text.${long}`);
}

function swap() {
  if (!languages.canSwap()) return;
  const { source: from, target: to } = languages.pair;
  if (shown.text) source.value = shown.text;
  languages.choose(to, from);
}

function openLink() {
  const state = linkedState();
  if (!state) return;
  languages.wanted = state;
  languages.fill(state.source, state.target);
  source.value = state.text;
  byId("marks").textContent = `${state.text}\n`;
  byId("clear").hidden = state.text === "";
  showCount(state.text);
  run();
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // storage is switched off: the choice lasts as long as the page
  }
  showTheme();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function showTheme() {
  byId("theme").setAttribute("aria-pressed", String(isDark()));
}

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
byId("clear").addEventListener("click", () => {
  source.value = "";
  edited(0);
  source.focus();
});
byId("swap").addEventListener("click", swap);
byId("copy").addEventListener("click", () => copyAndSay(shown.text, "Copied."));
byId("share").addEventListener("click", share);
byId("confidence").addEventListener("click", (event) => {
  const on = event.currentTarget.getAttribute("aria-pressed") === "true";
  event.currentTarget.setAttribute("aria-pressed", String(!on));
  showDoubts();
});
attention.addEventListener("toggle", () => showAttention(segmentShown));
call.addEventListener("toggle", showCall);
byId("copy-curl").addEventListener("click", () => copyAndSay(byId("curl").textContent, "Command copied."));
byId("theme").addEventListener("click", toggleTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
window.addEventListener("hashchange", openLink);
window.addEventListener("online", () => (languages.ready ? run() : refreshModels()));

tabs(document.querySelector("[role=tablist]"));
fileTab({ pair: () => languages.pair, ready: () => languages.ready, limits });
showTheme();
showCount(source.value);
openLink();
refreshModels();
