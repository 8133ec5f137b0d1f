// The timeline of labels: what is painted, and how it is read with pointer, keys and screen reader.

import { AXIS_HEIGHT, cellsOf, LANE_HEIGHT, paint, SPEECH_HEIGHT, STATUS_HEIGHT } from "./paint.js";
import { fit } from "./canvas.js";
import { peopleWords, wordsFor } from "./people.js";
import { Rows } from "./rows.js";
import { clockTime, made, mark, MODALITIES, percent, reasonWords, set, shareWords, stepWords } from "./words.js";

const NARROW = 560;
const FEWEST_ROWS = 7;
// The rest of the sentence is.
const ENGLISH = wordsFor(["en"]);
const HINT = "Point at or tap a moment, or go from one to the next with the arrow keys. A click on a label, or Enter, asks why.";

// A segment in one sentence, for the eye and the ear.
export function segmentWords({ status, reason, degraded, labels, people, coverage, latency_ms: latency, bound_ms: bound, delivered_late: late, end }, most = 4) {
  const answer = {
    ok: "ok",
    degraded: `degraded, without ${degraded.map(stepWords).join(", ")}`,
    shed: `shed: ${reasonWords(reason)}`,
  }[status];
  const found = labels.slice(0, most).map((label) => `${label.name} ${label.score.toFixed(2)} (${shareWords(label.share)})`);
  const there = ["video", "audio"].map((modality) => `${modality} ${percent(coverage[modality])}`);
  const times = `${Math.round(latency.total)} of ${bound} ms${late ? ", stored late" : ""}`;
  const who = people ? [peopleWords(people, ENGLISH)] : [];
  return [clockTime(end), answer, found.join("; ") || "no labels", ...who, `there: ${there.join(", ")}`, times].join(" · ");
}

export class Timeline {
  // onWhy(item, label) is asked about a label; onChange() hears that something else is to be drawn.
  constructor(root, { record, axis, onWhy, onChange }) {
    Object.assign(this, { record, axis, onWhy, onChange });
    const find = (selector) => root.querySelector(selector);
    [this.stage, this.canvas, this.names, this.readout] = [".stage", ".stage canvas", ".names", ".readout"].map(find);
    [this.hold, this.paused] = [".hold", ".paused"].map(find);
    this.rows = new Rows(11);
    this.cells = [];
    this.rowsShown = FEWEST_ROWS;
    this.cursor = null;
    this.hovers = false;
    // Said in place of the hint, where something went wrong.
    this.note = "";
    this.#listen();
  }

  #listen() {
    this.stage.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.#hover(event));
    this.stage.addEventListener("pointerleave", () => this.#unhover());
    this.stage.addEventListener("click", (event) => this.#click(event));
    this.stage.addEventListener("keydown", (event) => this.#key(event));
    this.stage.addEventListener("focus", () => this.#tell());
    this.hold.addEventListener("click", () => this.toggle());
  }

  toggle() {
    if (this.axis.isHeld && !this.hovers) this.goLive();
    else {
      this.hovers = false;
      this.axis.hold();
      this.onChange();
    }
  }

  goLive() {
    this.axis.release();
    this.hovers = false;
    this.cursor = null;
    this.onChange();
  }

  // Stands at `item`, with some time after it in sight.
  goTo(item) {
    this.cursor = item;
    const { fromMs, toMs, spanMs } = this.axis;
    if (item.endMs - spanMs / 40 < fromMs) this.axis.hold(item.endMs + spanMs * 0.9);
    else if (item.endMs > toMs) this.axis.hold(item.endMs + spanMs * 0.1);
    else this.axis.hold();
    this.hovers = false;
    this.#tell();
    this.onChange();
  }

  #hover(event) {
    if (!this.axis.isHeld) {
      this.axis.hold();
      this.hovers = true;
    }
    this.cursor = this.#at(event)?.item ?? null;
    this.onChange();
  }

  #unhover() {
    if (!this.hovers) return;
    this.goLive();
  }

  #at({ offsetX }) {
    const { fromMs, spanMs } = this.axis;
    const at = fromMs + (offsetX / this.stage.clientWidth) * spanMs;
    return this.cells.find((cell) => cell.fromMs < at && at <= cell.toMs);
  }

  #click(event) {
    const cell = this.#at(event);
    if (!cell) return;
    this.cursor = cell.item;
    this.onChange();
    const name = this.rows.slots[Math.floor((event.offsetY - STATUS_HEIGHT) / this.geometry.rowHeight)];
    const label = cell.item.segment.labels.find((one) => one.name === name);
    if (label) this.onWhy(cell.item, label);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const does = {
      ArrowLeft: () => this.#step(-1),
      ArrowDown: () => this.#step(-1),
      ArrowRight: () => this.#step(1),
      ArrowUp: () => this.#step(1),
      PageDown: () => this.#step(-10),
      PageUp: () => this.#step(10),
      Home: () => this.cells.length && this.goTo(this.cells[0].item),
      End: () => this.goLive(),
      Escape: () => this.goLive(),
      " ": () => this.toggle(),
      Enter: () => this.#ask(),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  #step(by) {
    const { items } = this.record;
    if (!items.length) return;
    const from = this.cursor ? items.indexOf(this.cursor) : items.indexOf(this.cells.at(-1)?.item) - by;
    this.goTo(items[Math.min(Math.max(from + by, 0), items.length - 1)]);
  }

  #ask() {
    const item = this.cursor ?? this.cells.at(-1)?.item;
    const label = item?.segment.labels[0];
    if (label) this.onWhy(item, label);
  }

  // To a screen reader: only when the reader moves, because a value that changes is read aloud.
  #tell() {
    const item = this.cursor ?? this.record.newest;
    if (!item) return;
    mark(this.stage, "aria-valuenow", String(this.record.items.indexOf(item)));
    mark(this.stage, "aria-valuetext", segmentWords(item.segment));
  }

  // state: a word for time after the last segment, null while segments are due. spoken: utterances in sight.
  draw(items, state, spoken) {
    if (this.cursor && !this.record.keys.has(this.cursor.key)) this.cursor = null;
    mark(this.stage, "aria-valuemax", String(Math.max(0, this.record.items.length - 1)));
    this.cells = cellsOf(items);
    this.rows.most = this.stage.clientWidth < NARROW ? 8 : 11;
    this.rows.update(items);
    // It grows when there is more to show, and does not jump back.
    this.rowsShown = Math.min(this.rows.most, Math.max(this.rowsShown, this.rows.slots.length));
    this.geometry = this.#measure(items, spoken);
    this.#drawNames(items);
    const fitted = fit(this.canvas);
    if (fitted) paint(fitted.pen, { ...this.geometry, width: fitted.width, height: fitted.height }, this.axis, this.cells, { cursor: this.cursor, words: state, spoken });
    this.#drawWords();
  }

  #measure(items, spoken) {
    const isNarrow = this.stage.clientWidth < NARROW;
    const lanes = MODALITIES.filter((modality) => modality !== "text" || items.some(({ segment }) => segment.coverage.text > 0));
    const geometry = { rows: this.rowsShown, rowHeight: isNarrow ? 36 : 26, bandTop: isNarrow ? 15 : 2, slots: this.rows.slots, lanes };
    geometry.speech = spoken.length ? SPEECH_HEIGHT : 0;
    const foot = STATUS_HEIGHT + geometry.rows * geometry.rowHeight;
    const height = foot + geometry.speech + 4 + lanes.length * LANE_HEIGHT + AXIS_HEIGHT;
    const style = this.stage.parentElement.style;
    const wanted = { "--row": geometry.rowHeight, "--status": STATUS_HEIGHT, "--lane": LANE_HEIGHT, "--speech": geometry.speech };
    Object.assign(wanted, { "--foot": foot, "--height": height });
    for (const [name, pixels] of Object.entries(wanted))
      if (style.getPropertyValue(name) !== `${pixels}px`) style.setProperty(name, `${pixels}px`);
    return geometry;
  }

  #drawNames(items) {
    const { rows, slots, lanes, speech } = this.geometry;
    this.names.toggleAttribute("data-speech", speech > 0);
    const wanted = rows + lanes.length;
    while (this.names.children.length > wanted) this.names.lastElementChild.remove();
    while (this.names.children.length < wanted) this.names.append(this.#nameItem());
    const shown = (this.cursor ?? items.at(-1))?.segment.labels ?? [];
    [...this.names.children].forEach((element, index) => {
      const [button, score, lane] = element.children;
      const name = index < rows ? (slots[index] ?? "") : "";
      set(button, name);
      button.hidden = !name;
      mark(button, "title", name);
      mark(button, "aria-label", `${name}: why?`);
      const label = shown.find((one) => one.name === name);
      set(score, label ? label.score.toFixed(2) : "");
      set(lane, index < rows ? "" : `${lanes[index - rows]} there`);
      mark(element, "class", index < rows ? "" : "lane");
    });
  }

  #nameItem() {
    const element = document.createElement("li");
    const button = made("button");
    button.type = "button";
    button.addEventListener("click", () => this.#askOf(button.textContent));
    element.append(button, made("span", "score"), made("span", "lane-name"));
    return element;
  }

  // Of the moment under the cursor, or the last one in sight that has the label.
  #askOf(name) {
    const has = (item) => item?.segment.labels.find((one) => one.name === name);
    const item = has(this.cursor) ? this.cursor : this.cells.findLast((cell) => has(cell.item))?.item;
    if (item) this.onWhy(item, has(item));
  }

  #drawWords() {
    const { axis } = this;
    const more = this.rows.hidden;
    const rest = more ? ` ${more} more ${more === 1 ? "label has" : "labels have"} no row.` : "";
    set(this.readout, this.cursor ? segmentWords(this.cursor.segment) : this.note || HINT + rest);
    const since = axis.isHeld ? this.record.items.filter((item) => item.endMs > axis.heldMs).length : 0;
    this.paused.hidden = !axis.isHeld;
    set(this.paused, axis.isHeld ? `paused${since ? `, ${since} new` : ""}` : "");
    mark(this.hold, "aria-pressed", String(axis.isHeld && !this.hovers));
  }
}
