// The file tab: take a file, show how far it is, hand the translation back.

import { Problem } from "./api.js";
import { count, lineCount } from "./format.js";
import { decode, translateLines } from "./text_file.js";

const byId = (id) => document.getElementById(id);

/** `pair()` gives the languages chosen; `limits` are the service's. */
export function fileTab({ pair, ready, limits }) {
  const [drop, input, download] = [byId("drop"), byId("file"), byId("download")];
  let job = null;

  input.addEventListener("change", () => {
    if (input.files.length > 0) start(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  for (const type of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragover");
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
    byId("job").hidden = false;
    byId("file-name").textContent = file.name;
    URL.revokeObjectURL(download.href);
    download.removeAttribute("href");
    download.hidden = true;
    byId("stop").hidden = false;
    try {
      if (!/\.txt$/i.test(file.name)) throw new Problem("Only .txt files are translated here.");
      if (!ready()) throw new Problem("No model is ready yet; try again soon.");
      const languages = pair();
      const { text, encoding } = decode(new Uint8Array(await file.arrayBuffer()));
      const result = await translateLines(text, {
        languages,
        limits,
        signal: own.signal,
        told: (state) => own === job && showProgress(state),
      });
      if (own !== job) return;
      offer(result.text, file.name, languages.target);
      say(summary(result, encoding));
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

  function offer(text, name, target) {
    download.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
    download.download = name.replace(/(\.txt)$/i, `.${target}$1`);
    download.hidden = false;
    download.focus();
  }
}

function showProgress({ done, total, waiting }) {
  const progress = byId("progress");
  progress.max = Math.max(1, total);
  progress.value = total > 0 ? done : 1;
  const lines = `${count(done)} of ${lineCount(total)}`;
  byId("file-note").textContent = waiting ? `${lines}. ${waiting} Trying again soon.` : lines;
}

function summary({ numLines, refused }, encoding) {
  const read = encoding === "UTF-8" ? "" : ` It was read as ${encoding}; the translation is UTF-8.`;
  const left =
    refused.length === 0
      ? ""
      : ` Could not be translated and was left as it is: line ${refused.slice(0, 10).join(", ")}` +
        (refused.length > 10 ? ` and ${count(refused.length - 10)} more.` : ".");
  return `Done: ${lineCount(numLines - refused.length)}.${left}${read}`;
}
