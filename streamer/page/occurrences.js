// The answers of a search over time: one band a stream, a mark for each interval, the hours underneath.

import { made, MODALITIES } from "./words.js";

const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800].map((seconds) => seconds * 1000);
const DAY_MS = 86_400_000;
const TICK_PX = 86;
// As many empty bands are still worth their room.
const SHOWN_EMPTY = 6;

export class Bands {
  // `address(interval)` is where a mark leads; the list below the bands says the same in words, so that this is a picture.
  constructor(element, { since, until, names }, address) {
    Object.assign(this, { element, since, until, address });
    this.span = Math.max(1, until - since);
    this.rows = new Map();
    this.ticks = made("div", "ticks");
    this.element.replaceChildren(this.ticks);
    if (names.length <= SHOWN_EMPTY) names.forEach((name) => this.row(name));
    this.watch = new ResizeObserver(() => this.drawTicks());
    this.watch.observe(element);
  }

  free() {
    this.watch.disconnect();
    this.element.replaceChildren();
  }

  place(element, from, to) {
    const [first, last] = [from, to].map((at) => Math.min(1, Math.max(0, (at - this.since) / this.span)));
    element.style.left = `${first * 100}%`;
    element.style.width = `${(last - first) * 100}%`;
  }

  row(name) {
    let row = this.rows.get(name);
    if (row) return row;
    const element = made("div", "band");
    const track = made("div", "track");
    row = { element, track, unkept: made("i", "unkept"), unread: made("i", "unread"), marks: new Map() };
    row.unkept.title = "not kept";
    track.append(row.unkept, row.unread);
    element.append(made("span", "name", name), track);
    element.firstChild.title = name;
    this.rows.set(name, row);
    const after = [...this.rows.keys()].filter((other) => other > name).sort()[0];
    this.element.insertBefore(element, after ? this.rows.get(after).element : this.ticks);
    return row;
  }

  draw({ intervals, oldest, reached }) {
    for (const interval of intervals) this.drawMark(interval);
    for (const [name, row] of this.rows) {
      const kept = oldest.get(name);
      this.place(row.unkept, this.since, kept === null ? this.until : (kept ?? this.since));
      this.place(row.unread, Math.max(reached.get(name) ?? this.since, kept ?? this.since), this.until);
    }
  }

  drawMark(interval) {
    const { marks, track } = this.row(interval.stream);
    const { start, end, peak, share } = interval;
    let mark = marks.get(interval);
    if (!mark) {
      mark = made("a", "mark");
      // The list has the same addresses for the keyboard; twice would be once too often.
      mark.tabIndex = -1;
      mark.href = this.address(interval);
      track.append(mark);
      marks.set(interval, mark);
    }
    if (mark.dataset.drawn === `${end} ${peak}`) return;
    mark.dataset.drawn = `${end} ${peak}`;
    mark.title = `${interval.label} ${peak.toFixed(2)}, ${new Date(start).toLocaleString([], { hour12: false })}`;
    this.place(mark, start, end);
    mark.style.height = `${25 + 75 * peak}%`;
    let upTo = 0;
    const stops = MODALITIES.map((modality) => {
      const from = upTo;
      upTo += share[modality] * 100;
      return `var(--${modality}) ${from.toFixed(1)}% ${upTo.toFixed(1)}%`;
    });
    mark.style.backgroundImage = `linear-gradient(0deg, ${stops.join(", ")})`;
  }

  drawTicks() {
    const most = Math.max(2, Math.floor(this.ticks.clientWidth / TICK_PX));
    const step = STEPS_MS.find((one) => this.span / one <= most) ?? Math.ceil(this.span / most / DAY_MS) * DAY_MS;
    const offset = new Date(this.since).getTimezoneOffset() * 60_000;
    const ticks = [];
    for (let at = Math.ceil((this.since - offset) / step) * step + offset; at <= this.until; at += step) {
      const tick = made("span", "tick", tickWords(at, step));
      tick.style.left = `${((at - this.since) / this.span) * 100}%`;
      ticks.push(tick);
    }
    this.ticks.replaceChildren(...ticks);
  }
}

function tickWords(at, step) {
  const time = new Date(at);
  if (step >= DAY_MS || (time.getHours() === 0 && time.getMinutes() === 0 && time.getSeconds() === 0))
    return time.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" });
  const seconds = step < 60_000 ? { second: "2-digit" } : {};
  return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...seconds, hour12: false });
}
