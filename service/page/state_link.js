// A link to what is on the page. The text travels behind the #, which browsers never send.

/** The page's address with languages and text. */
export function linkTo({ source, target, text }) {
  const url = new URL(location.href);
  url.hash = new URLSearchParams({ source, target, text }).toString();
  return url.href;
}

/** What the page was opened with, or null. */
export function linkedState() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("text") && !given.has("source")) return null;
  return { source: "", target: "", text: "", ...Object.fromEntries(given) };
}

/** Puts a link into the address bar, without a step back; takes it out once it is no longer true. */
export function showLink(href = location.pathname + location.search) {
  history.replaceState(null, "", href);
}
