// The file tab: take a file, show how far it is, hand the translation back.

import { Problem } from "./api.js";
import { byId } from "./dom.js";
import { KINDS } from "./file_kinds.js";
import { count } from "./format.js";
import { nameOf } from "./languages.js";
import { decode, translateFile } from "./text_file.js";

const MANY = 10; // lines named

export function fileTab(languages, limits) {
  const [drop, input, download] = [byId("drop"), byId("file"), byId("download")];
  let job = null;

  input.addEventListener("change", () => {
    if (input.files.length > 0) start(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  for (const type of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("dragged", type === "dragover");
      if (type === "drop" && event.dataTransfer.files.length > 0) start(event.dataTransfer.files[0]);
    });
  }
  byId("stop").addEventListener("click", () => job?.abort());

  async function start(file) {
    job?.abort();
    const own = (job = new AbortController());
    const say = (sentence) => {
      if (own === job) byId("file-note").textContent = sentence;
    };
    byId("job").hidden = byId("stop").hidden = false;
    byId("progress").value = 0;
    byId("file-name").textContent = file.name;
    URL.revokeObjectURL(download.href);
    download.hidden = true;
    try {
      const [, stem, ending] = /^(.*)\.(\w+)$/s.exec(file.name) ?? [];
      const kind = KINDS[ending?.toLowerCase()];
      if (!kind) throw new Problem("Only .txt, .srt and .html files are translated here.");
      if (!languages.ready) throw new Problem("No model is ready yet.");
      const { text, encoding } = decode(new Uint8Array(await file.arrayBuffer()));
      if (kind.isHtml && encoding === "windows-1252") {
        throw new Problem("This page is not in UTF-8. Save it as UTF-8 first.");
      }
      const { isAuto } = languages;
      const detect = (...given) => languages.detect(...given);
      const told = (state) => own === job && showProgress(state, kind.unit);
      const result = await translateFile(text, { kind, detect, limits, signal: own.signal, told });
      if (own !== job) return;
      download.href = URL.createObjectURL(new Blob([result.text], { type: `${kind.type};charset=utf-8` }));
      download.download = `${stem}.${result.languages.target}.${ending}`;
      download.hidden = false;
      download.focus();
      const detected = isAuto ? ` from ${nameOf(result.languages.source)}, detected` : "";
      say(`Done: ${count(result.total - result.refused.length, kind.unit)}${detected}.${remarks(result, encoding)}`);
    } catch (error) {
      if (error.name === "AbortError") say("Stopped.");
      else if (error instanceof Problem) say(error.message);
      else {
        say("The file could not be read.");
        throw error;
      }
    } finally {
      if (own === job) byId("stop").hidden = true;
    }
  }
}

function showProgress({ done, total, waiting }, unit) {
  const progress = byId("progress");
  progress.max = Math.max(1, total);
  progress.value = total > 0 ? done : 1;
  const state = `${count(done)} of ${count(total, unit)}`;
  byId("file-note").textContent = waiting ? `${state}. ${waiting} It goes on by itself.` : state;
}

function remarks({ refused }, encoding) {
  const more = refused.length > MANY ? ` and ${count(refused.length - MANY)} more` : "";
  const lines = `line ${refused.slice(0, MANY).join(", ")}${more}`;
  const left = refused.length > 0 ? ` Could not be translated and was left as it is: ${lines}.` : "";
  return encoding === "utf-8" ? left : `${left} It was read as ${encoding}; the translation is UTF-8.`;
}
