// The last segments as a table: the same as the drawings show, for who can't see them. Drawn only while it is open.

import { clockTime, made, percent, reasonWords, set, stepWords } from "./words.js";

const ROWS = 20;

export class Table {
  constructor(details) {
    this.details = details;
    this.body = details.querySelector("tbody");
    this.items = [];
    details.addEventListener("toggle", () => this.draw(this.items));
  }

  draw(items) {
    this.items = items.slice(-ROWS);
    if (!this.details.open) return;
    const shown = this.items.toReversed();
    while (this.body.rows.length > shown.length) this.body.lastElementChild.remove();
    while (this.body.rows.length < shown.length) this.body.append(emptyRow());
    shown.forEach(({ segment }, index) => {
      [...this.body.rows[index].cells].forEach((cell, column) => set(cell, COLUMNS[column](segment)));
    });
  }
}

const COLUMNS = [
  ({ end }) => clockTime(end),
  ({ status, reason, degraded }) =>
    ({ ok: "ok", shed: `shed: ${reasonWords(reason)}`, degraded: `degraded: ${degraded.map(stepWords).join(", ")}` })[status],
  ({ labels }) => labels.map(({ name, score }) => `${name} ${score.toFixed(2)}`).join(", ") || "none",
  ({ coverage }) => `video ${percent(coverage.video)}, audio ${percent(coverage.audio)}`,
  ({ latency_ms: latency, bound_ms: bound }) => `${Math.round(latency.total)} of ${bound} ms`,
];

function emptyRow() {
  const row = document.createElement("tr");
  row.append(...COLUMNS.map((_, column) => made(column ? "td" : "th")));
  row.firstElementChild.scope = "row";
  return row;
}
