// The file tab: reads a file, shows the progress, offers the translation for download.

import { Problem } from "./api.js";
import { count, ui } from "./dom.js";
import { KINDS } from "./file_kinds.js";
import { nameOf } from "./languages.js";
import { decode, TextFile } from "./text_file.js";

const MAX_LINES_NAMED = 10;

export function fileTab(languages, limits) {
  const { drop, file: input, download, stop } = ui;
  let running = null; // AbortController
  let resume; // starts the job of the current file, or continues it

  input.onchange = () => {
    if (input.files.length > 0) start(input.files[0]);
    input.value = ""; // the same file may be chosen again
  };
  for (const type of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("dragged", type === "dragover");
      if (type === "drop" && event.dataTransfer.files.length > 0) start(event.dataTransfer.files[0]);
    });
  }
  stop.onclick = () => (running ? running.abort() : resume());

  function start(file) {
    let text; // a TextFile, once the file is read
    ui.job.hidden = false;
    ui["file-name"].textContent = file.name;
    ui.progress.value = 0;
    resume = async () => {
      running?.abort();
      const own = (running = new AbortController());
      const report = (remark) => own === running && showProgress(text, remark);
      stop.hidden = false;
      stop.textContent = "Stop";
      URL.revokeObjectURL(download.href);
      download.hidden = true;
      try {
        text ??= await open(file);
        if (!languages.ready) throw new Problem("No model is ready yet.");
        await text.translate({ languages, limits, signal: own.signal, report });
        if (own === running) ui["file-note"].textContent = summary(text);
      } catch (error) {
        const isKnown = error instanceof Problem || error.name === "AbortError";
        report(!isKnown ? "The file could not be read." : own.signal.aborted ? "Stopped." : error.message);
        if (!isKnown) throw error;
      } finally {
        if (own === running) offer(file, text);
      }
    };
    resume();
  }

  /** Offers the translation, or its finished part and a button to continue. */
  function offer(file, text) {
    running = null;
    const { done, total, pair } = text ?? {};
    const isWhole = done === total;
    if (done > 0) {
      const type = `${text.kind.type};charset=utf-8`;
      download.href = URL.createObjectURL(new Blob([text.result], { type }));
      download.download = file.name.replace(/(?=\.\w+$)/, `.${pair.target}${isWhole ? "" : ".part"}`);
      download.textContent = isWhole ? "Download" : "Download the finished part";
      download.hidden = false;
    }
    if (isWhole && document.activeElement === stop) download.focus(); // `stop` will be hidden
    stop.hidden = isWhole;
    stop.textContent = pair ? `Continue into ${nameOf(pair.target)}` : "Continue"; // the job keeps its languages
  }
}

async function open(file) {
  const kind = KINDS[/\.(\w+)$/.exec(file.name)?.[1].toLowerCase()];
  if (!kind) throw new Problem("Only .txt, .srt and .html files are translated here.");
  const { text, encoding } = decode(new Uint8Array(await file.arrayBuffer()));
  if (kind.isHtml && encoding === "windows-1252") {
    throw new Problem("This page is not in UTF-8. Save it as UTF-8 first.");
  }
  return new TextFile(text, kind, encoding);
}

function showProgress(text, remark) {
  const { done, total, kind } = text ?? {};
  ui.progress.max = total || 1;
  ui.progress.value = total === 0 ? 1 : (done ?? 0);
  const state = text && `${count(done)} of ${count(total, kind.unit)}`;
  ui["file-note"].textContent = [state, remark].filter(Boolean).join(". ");
}

function summary({ total, refused, kind, pair, detected, isAuto, encoding }) {
  if (total === 0) return "The file has no text.";
  const from = isAuto ? ` from ${nameOf(pair.source)}, ${detected[1] ? "detected" : "assumed"}` : "";
  const sentences = [`Done: ${count(total - refused.length, kind.unit)}${from}.`];
  if (refused.length > 0) {
    const unnamed = refused.length - MAX_LINES_NAMED;
    const more = unnamed > 0 ? ` and ${count(unnamed)} more` : "";
    const lines = refused.slice(0, MAX_LINES_NAMED).join(", ") + more;
    sentences.push(`Could not be translated, left unchanged: line ${lines}.`);
  }
  if (encoding !== "utf-8") sentences.push(`It was read as ${encoding}; the translation is UTF-8.`);
  return sentences.join(" ");
}
