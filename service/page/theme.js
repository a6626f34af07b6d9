// Before anything is painted: light or dark as chosen here earlier, else as the system says.
// Not a module, because modules run after the first paint.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // storage is switched off: the system decides
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
