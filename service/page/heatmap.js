// The attention of one segment as a table: it is read as well as looked at.

import { element } from "./dom.js";
import { percent } from "./format.js";

const NUMBER_FROM = 0.1; // smaller shares are colour only, for the eye; a screen reader gets all

export function heatmap({ sources, targets }) {
  const table = element("table", { className: "heat" });
  const head = table.createTHead().insertRow();
  head.append(document.createElement("td"));
  for (const { text } of sources) head.append(header(text, "col"));
  head.append(header("end", "col", "end"));
  const body = table.createTBody();
  for (const target of targets) {
    if (!target.weights) continue;
    const row = body.insertRow();
    row.append(header(target.text, "row"));
    for (const weight of target.weights) row.append(cell(weight));
  }
  return table;
}

function header(text, scope, className = "") {
  const head = element("th", { scope, className });
  head.append(element("span", { textContent: text }));
  return head;
}

function cell(weight) {
  const box = element("td", { title: percent(weight) });
  box.style.setProperty("--weight", weight.toFixed(3));
  const className = weight < NUMBER_FROM ? "unseen" : "";
  box.append(element("span", { textContent: Math.round(weight * 100), className }));
  return box;
}
