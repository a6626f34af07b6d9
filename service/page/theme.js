// Light or dark colours: the choice stored in this browser, or else the system's. Not a module,
// because modules run after the first paint.
(() => {
  const { style } = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (style.colorScheme || (system.matches && "dark")) === "dark";
  try {
    style.colorScheme = localStorage.getItem("theme");
  } catch {
    // storage is switched off: follow the system
  }
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => (button.ariaPressed = isDark());
    button.onclick = () => {
      style.colorScheme = isDark() ? "light" : "dark";
      show();
      localStorage.setItem("theme", style.colorScheme); // last, because it may throw
    };
    system.onchange = show;
    show();
  });
})();
