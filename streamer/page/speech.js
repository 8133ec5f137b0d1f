// What was said, as text: words that still change are shown as such, and replaced by what they settled to.

import { clockTime, made, set } from "./words.js";

const KEPT = 50;

export class Said {
  // Shows utterances in the list `element`; its panel is hidden until there is one.
  constructor(element) {
    this.element = element;
    this.entries = new Map();
  }

  // A `speech` message: one utterance, as far as it has settled.
  take({ utterance, ...speech }) {
    this.#put(utterance, speech);
  }

  // What stands in a segment is final, and may have come as a message before: the same start is the same utterance.
  takeSegment({ speech }) {
    if (!speech) return;
    const known = [...this.entries].find(([, entry]) => entry.start === speech.start);
    this.#put(known ? known[0] : `segment ${speech.start}`, speech);
  }

  // What was said of (fromMs, toMs], in order: [{ startMs, endMs, text, isFinal }].
  between(fromMs, toMs) {
    const spoken = [...this.entries.values()].map(({ start, end, text, final }) =>
      ({ startMs: Date.parse(start), endMs: Date.parse(end), text, isFinal: final }));
    return spoken.filter(({ startMs, endMs }) => endMs > fromMs && startMs <= toMs).sort((one, other) => one.startMs - other.startMs);
  }

  #put(key, { text, language, final, start, end }) {
    let entry = this.entries.get(key);
    // A partial that comes after its final one is old news.
    if (entry?.final && !final) return;
    if (!entry) {
      entry = { start, element: this.#item() };
      this.entries.set(key, entry);
    }
    Object.assign(entry, { start, end, text, final });
    const [time, words] = entry.element.children;
    set(time, clockTime(start));
    time.dateTime = start;
    set(words, text);
    words.lang = language ?? "";
    entry.element.toggleAttribute("data-partial", !final);
    this.#bound();
  }

  #item() {
    const element = document.createElement("li");
    element.append(made("time"), made("span"));
    this.element.prepend(element);
    this.element.closest("section").hidden = false;
    return element;
  }

  #bound() {
    if (this.entries.size <= KEPT) return;
    const [oldest, { element }] = this.entries.entries().next().value;
    element.remove();
    this.entries.delete(oldest);
  }
}
