// The attention of one segment as a table: it is read as well as looked at.

import { percent } from "./format.js";

const NUMBER_FROM = 0.1; // smaller shares are colour only, for the eye; a screen reader gets all

export function heatmap({ sources, targets }) {
  const table = document.createElement("table");
  table.className = "heat";
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
  const element = document.createElement("th");
  const label = document.createElement("span");
  label.textContent = text;
  element.scope = scope;
  element.className = className;
  element.append(label);
  return element;
}

function cell(weight) {
  const element = document.createElement("td");
  element.style.setProperty("--weight", weight.toFixed(3));
  element.title = percent(weight);
  const number = document.createElement("span");
  number.textContent = String(Math.round(weight * 100));
  if (weight < NUMBER_FROM) number.className = "unseen";
  element.append(number);
  return element;
}
