// Light or dark, before the first paint: what this browser was told last, else what the system prefers.
"use strict";
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const KEY = "shoal-theme";
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // no storage here: the system's it is
  }

  const dark = () => (chosen ? chosen === "dark" : system.matches);
  const apply = () => {
    root.dataset.theme = dark() ? "dark" : "light";
    document.dispatchEvent(new Event("themed"));
  };

  system.addEventListener("change", apply);
  apply();

  window.shoalTheme = {
    isDark: dark,
    turn() {
      chosen = dark() ? "light" : "dark";
      if ((chosen === "dark") === system.matches) chosen = null; // as the system again: follow it
      try {
        if (chosen) localStorage.setItem(KEY, chosen);
        else localStorage.removeItem(KEY);
      } catch {
        // for this page alone, then
      }
      apply();
    },
  };
})();
