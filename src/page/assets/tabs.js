// Tabs, the theme and the toast: what the page has around its panes.

import { byId } from "./dom.js";

/**
 * Makes tabs of a tab list: arrow keys move, one panel is shown.
 * @param {HTMLElement} list
 * @param {(id: string) => void} chosen called with the id of the panel
 */
export function startTabs(list, chosen) {
  const tabs = [...list.querySelectorAll("button")];
  const panelOf = (/** @type {Element} */ tab) => tab.getAttribute("aria-controls") || "";
  const choose = (/** @type {HTMLButtonElement} */ tab) => {
    for (const other of tabs) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
      byId(panelOf(other), HTMLElement).hidden = other !== tab;
    }
    chosen(panelOf(tab));
  };
  tabs.forEach((tab, i) => {
    tab.type = "button";
    tab.onclick = () => choose(tab);
    tab.onkeydown = (event) => {
      const by = /** @type {Record<string, number>} */ ({ ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: tabs.length - 1 })[event.key];
      if (by === undefined) return;
      event.preventDefault();
      const next = tabs[(by + tabs.length) % tabs.length];
      next.focus();
      choose(next);
    };
  });
  choose(tabs[0]);
  return { choose: (/** @type {string} */ panel) => { const tab = tabs.find((other) => panelOf(other) === panel); if (tab) choose(tab); } };
}

const THEMES = ["auto", "light", "dark"];

/** Light, dark, or as the system has it; kept for the next visit. @param {(dark: boolean) => void} changed */
export function startTheme(changed) {
  const button = byId("theme", HTMLButtonElement), system = matchMedia("(prefers-color-scheme: dark)");
  let theme = "auto";
  try { theme = localStorage.getItem("hexcuda-theme") || "auto"; } catch { /* a page that may keep nothing */ }
  const apply = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = theme[0].toUpperCase() + theme.slice(1);
    button.setAttribute("aria-label", `Theme: ${theme}`);
    changed(theme === "dark" || (theme === "auto" && system.matches));
  };
  button.onclick = () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try { localStorage.setItem("hexcuda-theme", theme); } catch { /* as above */ }
    apply();
  };
  system.addEventListener("change", apply);
  apply();
}

/** Shows a line to the reader until closed; an empty one takes it away. @param {string} text */
export function say(text) {
  byId("notice-text", HTMLElement).textContent = text;
  byId("notice", HTMLElement).hidden = !text;
}

/** @param {unknown} error */
export const fail = (error) => say(error instanceof Error ? error.message : String(error));
