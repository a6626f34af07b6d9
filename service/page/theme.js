// Light or dark, as chosen here earlier or as the system is. No module: those run after first paint.
(() => {
  const { style } = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (style.colorScheme || (system.matches && "dark")) === "dark";
  try {
    style.colorScheme = localStorage.getItem("theme");
  } catch {
    // storage is switched off: the system decides
  }
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => (button.ariaPressed = isDark());
    button.onclick = () => {
      style.colorScheme = isDark() ? "light" : "dark";
      show();
      localStorage.setItem("theme", style.colorScheme); // last: it may throw, as above
    };
    system.onchange = show;
    show();
  });
})();
