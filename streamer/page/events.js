// What happened of late, the newest first: labels' intervals, streams' states, alerts, and what this page missed.

import { age, clockTime, stamp } from "./words.js";

const KEPT = 80;

export class Events {
  constructor(list) {
    this.list = list;
    this.entries = new Map();
    this.fresh = 0;
  }

  take(message) {
    if (message.type === "event") this.takeEvent(message);
    else if (message.type === "alert") {
      const what = `${message.state === "cleared" ? "Cleared: " : ""}${message.text || message.rule}`;
      this.put(message.id, { kind: "alert", at: message.since, what, where: message.stream, stream: message.stream });
    } else if (message.type === "stream") {
      const why = message.reason ? `${message.stream}: ${message.reason}` : message.stream;
      this.put(`stream-${this.fresh++}`, { kind: "stream", at: new Date().toISOString(), what: message.state, where: why, stream: message.stream });
    } else if (message.type === "gap") {
      const what = message.count === null ? "Messages missed" : `${message.count} messages missed`;
      this.put(`gap-${this.fresh++}`, { kind: "gap", at: new Date().toISOString(), what, where: "this page fell behind" });
    }
  }

  takeEvent(message) {
    const open = message.state !== "close";
    this.put(message.id, {
      kind: "event",
      at: message.start,
      what: message.label,
      where: message.stream,
      stream: message.stream,
      long: message.score.toFixed(2),
      ended: open ? null : message.end,
      open,
    });
  }

  put(id, entry) {
    const known = this.entries.get(id);
    this.entries.set(id, { ...known, ...entry, changed: true });
    if (known || this.entries.size <= KEPT) return;
    const [oldest, { element }] = this.entries.entries().next().value;
    element?.remove();
    this.entries.delete(oldest);
  }

  draw() {
    for (const entry of this.entries.values()) {
      if (!entry.changed) continue;
      entry.changed = false;
      if (!entry.element) {
        entry.element = stamp("event");
        this.list.prepend(entry.element);
      }
      const [time, what, where, long] = entry.element.children;
      const at = Date.parse(entry.at);
      time.dateTime = entry.at;
      time.textContent = clockTime(entry.at);
      what.textContent = what.title = entry.what;
      // What has a stream leads to it; a gap is this page's own and leads nowhere.
      if (entry.stream) what.href = `#/streams/${encodeURIComponent(entry.stream)}${moment(entry)}`;
      where.textContent = where.title = entry.ended ? `${entry.where}, for ${age(Date.parse(entry.ended) - at)}` : entry.where;
      long.textContent = entry.long ?? "";
      entry.element.dataset.kind = entry.kind;
      entry.element.toggleAttribute("data-fall", entry.kind === "event" && entry.what === "Fall");
      entry.element.toggleAttribute("data-open", Boolean(entry.open));
    }
  }
}

// A state is entered by this machine's clock, which need not be the service's: it leads to the stream as it is now.
function moment({ kind, at }) {
  return kind === "stream" ? "" : `?at=${encodeURIComponent(at)}`;
}
