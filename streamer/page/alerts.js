// Alerts: what fires now, kept for the whole page, and strips that show it on the wall and in a stream's view.

import { age, clockTime, mark, set, stamp } from "./words.js";

// More alerts than this at once are a fault of the rules; the oldest make room.
const KEPT = 50;
// A cleared alert stays this long, so that who looks up at the flicker still reads what it was.
const CLEARED_MS = 10_000;

export class Alerts {
  #listeners = new Set();
  #timers = new Map();

  firing = new Map();

  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  take(alert) {
    clearTimeout(this.#timers.get(alert.id));
    this.#timers.delete(alert.id);
    if (alert.state === "cleared") {
      if (!this.firing.has(alert.id)) return;
      this.#timers.set(alert.id, setTimeout(() => this.#drop(alert.id), CLEARED_MS));
    }
    this.firing.set(alert.id, alert);
    if (this.firing.size > KEPT) this.#drop(this.firing.keys().next().value);
    this.#tell();
  }

  #drop(id) {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    this.firing.delete(id);
    this.#tell();
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }
}

export class AlertStrip {
  // Shows in the list `element` the alerts of `stream`, or of all streams; close() ends it.
  constructor(element, alerts, stream = null) {
    this.element = element;
    this.alerts = alerts;
    this.stream = stream;
    this.items = new Map();
    this.close = alerts.onChange(() => this.draw());
    this.draw();
  }

  draw() {
    const shown = [...this.alerts.firing.values()].filter((alert) => this.stream === null || alert.stream === this.stream);
    const ids = new Set(shown.map((alert) => alert.id));
    for (const [id, item] of this.items) {
      if (ids.has(id)) continue;
      item.remove();
      this.items.delete(id);
    }
    for (const alert of shown) this.#item(alert);
    this.element.hidden = !shown.length;
  }

  #item(alert) {
    let item = this.items.get(alert.id);
    if (!item) {
      item = stamp("alert");
      this.items.set(alert.id, item);
      this.element.prepend(item);
    }
    const [severity, what, where, time] = item.children;
    const cleared = alert.state === "cleared";
    mark(item, "data-severity", alert.severity ?? "");
    item.toggleAttribute("data-cleared", cleared);
    set(severity, cleared ? "cleared" : (alert.severity ?? "alert"));
    set(what, alert.text || alert.rule);
    set(where, alert.stream ?? "");
    where.hidden = this.stream !== null;
    where.href = `#/streams/${encodeURIComponent(alert.stream)}?at=${encodeURIComponent(alert.since)}`;
    set(time, `since ${clockTime(alert.since)}`);
    time.dateTime = alert.since;
    time.title = `for ${age(Date.now() - Date.parse(alert.since))}`;
  }
}
