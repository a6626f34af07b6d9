// Switches tabs by mouse and arrow keys, as the ARIA practices describe.

import { ui } from "./dom.js";

const all = [ui["text-tab"], ui["file-tab"]];

function select(chosen) {
  for (const tab of all) {
    const isChosen = tab === chosen;
    tab.ariaSelected = isChosen;
    tab.tabIndex = isChosen ? 0 : -1;
    ui[tab.getAttribute("aria-controls")].hidden = !isChosen;
  }
  dispatchEvent(new Event("tab"));
}

for (const [place, tab] of all.entries()) {
  tab.onclick = () => select(tab);
  tab.onkeydown = ({ key }) => {
    if (!/^Arrow[LR]/.test(key)) return;
    const other = all[1 - place];
    select(other);
    other.focus();
  };
}
