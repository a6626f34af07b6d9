// The file tab: take a file, show how far it is, hand the translation back.

import { Problem } from "./api.js";
import { count, ui } from "./dom.js";
import { KINDS } from "./file_kinds.js";
import { nameOf } from "./languages.js";
import { decode, TextFile } from "./text_file.js";

const MANY = 10; // lines named

export function fileTab(languages, limits) {
  const { drop, file: input, download, stop } = ui;
  let running = null; // AbortController
  let goOn;

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
  stop.onclick = () => (running ? running.abort() : goOn());

  function start(file) {
    let text; // once it is read
    ui.job.hidden = false;
    ui["file-name"].textContent = file.name;
    ui.progress.value = 0;
    goOn = async () => {
      running?.abort();
      const own = (running = new AbortController());
      const told = (remark) => own === running && showProgress(text, remark);
      stop.hidden = false;
      stop.textContent = "Stop";
      URL.revokeObjectURL(download.href);
      download.hidden = true;
      try {
        text ??= await open(file);
        if (!languages.ready) throw new Problem("No model is ready yet.");
        await text.translate({ languages, limits, signal: own.signal, told });
        if (own === running) ui["file-note"].textContent = summary(text);
      } catch (error) {
        const isKnown = error instanceof Problem || error.name === "AbortError";
        told(!isKnown ? "The file could not be read." : own.signal.aborted ? "Stopped." : error.message);
        if (!isKnown) throw error;
      } finally {
        if (own === running) offer(file, text);
      }
    };
    goOn();
  }

  /** What there is now: the translation, or a part of it and to go on. */
  function offer(file, text) {
    running = null;
    const { done, total, pair } = text ?? {};
    const isWhole = done === total;
    if (done > 0) {
      const type = `${text.kind.type};charset=utf-8`;
      download.href = URL.createObjectURL(new Blob([text.result], { type }));
      download.download = file.name.replace(/(?=\.\w+$)/, `.${pair.target}${isWhole ? "" : ".part"}`);
      download.textContent = isWhole ? "Download" : "Download this much";
      download.hidden = false;
    }
    if (isWhole && document.activeElement === stop) download.focus(); // it would get lost
    stop.hidden = isWhole;
    stop.textContent = pair ? `Continue into ${nameOf(pair.target)}` : "Continue"; // whatever is chosen by now
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

function summary({ total, refused, kind, pair, heard, isDetected, encoding }) {
  if (total === 0) return "There is no text in it.";
  const detected = isDetected ? ` from ${nameOf(pair.source)}, ${heard[1] ? "detected" : "assumed"}` : "";
  const sentences = [`Done: ${count(total - refused.length, kind.unit)}${detected}.`];
  if (refused.length > 0) {
    const more = refused.length > MANY ? ` and ${count(refused.length - MANY)} more` : "";
    const lines = refused.slice(0, MANY).join(", ") + more;
    sentences.push(`Could not be translated and was left as it is: line ${lines}.`);
  }
  if (encoding !== "utf-8") sentences.push(`It was read as ${encoding}; the translation is UTF-8.`);
  return sentences.join(" ");
}
