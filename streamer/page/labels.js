// The labels of now, one row each: rows are kept and changed, never built anew, and change places seldom.

import { made, mark, meterOf, set, shareWords, stamp } from "./words.js";

// A row keeps its place until another is this much stronger: labels that take turns at the top can't be read.
const LEAD = 0.08;
const STRONG = 0.5;

export class LabelList {
  // `most` rows at a time go into the list `element`. With `onPick`, a row is a button that says its label when pressed.
  constructor(element, most, onPick = null) {
    Object.assign(this, { element, most, onPick });
    this.rows = new Map();
    this.order = [];
  }

  has(text) {
    return this.order.some((row) => row.name.toLowerCase().includes(text));
  }

  draw(labels) {
    const scores = new Map(labels.map((label) => [label.name, label]));
    const kept = this.order.filter((row) => scores.has(row.name));
    for (const label of labels) {
      const row = this.rows.get(label.name) ?? this.#add(label.name);
      row.label = label;
      if (!kept.includes(row)) kept.push(row);
    }
    // Insertion sort with a lead: few rows, nearly in order.
    for (let from = 1; from < kept.length; from++)
      for (let at = from; at > 0 && kept[at].label.score > kept[at - 1].label.score + LEAD; at--)
        [kept[at], kept[at - 1]] = [kept[at - 1], kept[at]];
    this.order = kept.slice(0, this.most);
    for (const row of this.rows.values()) if (!this.order.includes(row)) this.#drop(row);
    this.order.forEach((row, index) => {
      const there = this.element.children[index];
      if (there !== row.element) this.element.insertBefore(row.element, there ?? null);
      drawRow(row);
    });
  }

  #add(name) {
    const element = stamp("label");
    const row = { name, element, label: null, meter: element.querySelector(".meter"), score: element.querySelector(".score") };
    const shown = element.querySelector(".name");
    shown.textContent = shown.title = name;
    if (this.onPick) shown.replaceWith(this.#button(name, () => row.label));
    element.dataset.label = name;
    this.rows.set(name, row);
    return row;
  }

  #button(name, label) {
    const button = made("button", "name", name);
    button.type = "button";
    button.setAttribute("aria-label", `${name}: why?`);
    button.addEventListener("click", () => this.onPick(label()));
    return button;
  }

  #drop(row) {
    row.element.remove();
    this.rows.delete(row.name);
  }
}

function drawRow(row) {
  const { score, share } = row.label;
  row.meter.style.backgroundImage = meterOf(row.label);
  set(row.score, score.toFixed(2));
  row.element.toggleAttribute("data-strong", score >= STRONG);
  mark(row.element, "title", `${row.name} ${score.toFixed(2)}: ${shareWords(share)}`);
}
