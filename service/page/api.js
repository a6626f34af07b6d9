// The service's own API: models and translations, and its refusals as sentences.

const ASK_AGAIN_S = 5; // when the service does not say when to try again

/** Why there is no answer: a sentence for a person and, if trying again may help, in how long. */
export class Problem extends Error {
  constructor(sentence, { retryAfterS = null, status = 0 } = {}) {
    super(sentence);
    this.retryAfterS = retryAfterS;
    this.status = status;
  }
}

export async function listModels() {
  return (await call("v1/models")).models;
}

/** The answer to `body`; `signal` cancels it, down to the engine. */
export function translate(body, signal) {
  return call("v1/translate", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
}

/** The same request as a line for a shell; single quotes keep everything else as it is. */
export function asCurl(body) {
  const url = new URL("v1/translate", document.baseURI);
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl -s '${url.href.replaceAll("'", "%27")}' -H 'Content-Type: application/json' \\\n    -d '${json}'`;
}

async function call(path, options = {}) {
  let response, answer;
  try {
    response = await fetch(path, options);
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response && !response.ok) throw refusal(response, null);
    throw new Problem("The service cannot be reached.", { retryAfterS: ASK_AGAIN_S });
  }
  if (!response.ok) throw refusal(response, answer);
  return answer;
}

function refusal(response, answer) {
  const said = String(answer?.error?.message ?? answer?.error ?? "");
  const { status } = response;
  const asked = Number.parseInt(response.headers.get("Retry-After"), 10);
  const later = { status, retryAfterS: asked > 0 ? asked : ASK_AGAIN_S };
  switch (status) {
    case 413:
      return new Problem(`This is too much for one request: ${said || "see the limits"}.`, { status });
    case 429:
      return new Problem("The service is busy.", later);
    case 503:
      return new Problem(`The service is not ready: ${said || "it is starting or stopping"}.`, later);
    case 504:
      return new Problem("This took too long. Try a shorter text, or send it as a file.", { status });
    case 502:
      return new Problem("The service cannot be reached.", later);
    default:
      return new Problem(said ? `Not translated: ${said}.` : `Not translated (HTTP ${status}).`, { status });
  }
}
