// What was said, as text: words that still change are shown as such, and replaced by what they settled to.

import { clockTime, made, set } from "./words.js";

const KEPT = 50;

export class Said {
  // Shows utterances in the list `element`; its panel is hidden until there is one.
  constructor(element) {
    this.element = element;
    this.entries = new Map();
  }

  // A `speech` message: one utterance, as far as it has settled. Without text it takes back what was shown of it.
  take({ utterance, ...speech }) {
    const key = this.entries.has(utterance) ? utterance : (this.#keyOf(speech) ?? utterance);
    if (speech.text || speech.final) this.#put(key, speech);
    else if (this.entries.get(key)?.final === false) this.#remove(key);
  }

  // What stands in a segment is final, and comes as a message as well.
  takeSegment({ speech }) {
    if (speech) this.#put(this.#keyOf(speech) ?? `segment ${speech.start}`, speech);
  }

  // The same start is the same utterance.
  #keyOf({ start }) {
    return [...this.entries].find(([, entry]) => entry.start === start)?.[0];
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
    this.#remove(this.entries.keys().next().value);
  }

  #remove(key) {
    this.entries.get(key).element.remove();
    this.entries.delete(key);
  }
}
