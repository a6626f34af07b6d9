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
  return {
    source: given.get("source") ?? "",
    target: given.get("target") ?? "",
    text: given.get("text") ?? "",
  };
}

/** Shows `href` in the address bar, without a step back in the history. */
export function showLink(href) {
  history.replaceState(null, "", href);
}

/** Takes a text out of the address bar once it is no longer the one on the page. */
export function dropLink() {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
}
