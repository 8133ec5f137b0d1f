// One stream's segments, oldest first, each once: what was asked of the store joined with what comes live. Bounded by
// time and by count.

const keyOf = (segment) => `${segment.epoch}/${segment.seq}`;

export class Record {
  constructor(keepMs, most) {
    this.keepMs = keepMs;
    this.most = most;
    this.clear();
  }

  clear() {
    this.items = [];
    this.keys = new Set();
  }

  get newest() {
    return this.items.at(-1);
  }

  get oldest() {
    return this.items[0];
  }

  // A live segment; false where it is known already.
  take(segment) {
    const key = keyOf(segment);
    if (this.keys.has(key)) return false;
    this.keys.add(key);
    this.items.push(item(segment, key));
    this.#trim();
    return true;
  }

  // A run of past segments without a hole, oldest first. What is known and not among them stays before or after them.
  merge(segments) {
    const run = segments.map((segment) => item(segment, keyOf(segment)));
    if (!run.length) return;
    const among = new Set(run.map((one) => one.key));
    const first = this.items.findIndex((one) => among.has(one.key));
    // A camera's clock may jump between epochs, so times order two runs only where no segment is in both.
    const isBefore = (one, index) => (first >= 0 ? index < first : one.endMs < run[0].endMs);
    const others = this.items.map((one, index) => ({ one, before: isBefore(one, index) })).filter(({ one }) => !among.has(one.key));
    const part = (before) => others.filter((other) => other.before === before).map(({ one }) => one);
    this.items = [...part(true), ...run, ...part(false)];
    this.keys = new Set(this.items.map((one) => one.key));
    this.#trim();
  }

  // The segments whose end is in (fromMs, toMs].
  between(fromMs, toMs) {
    return this.items.filter((one) => one.endMs > fromMs && one.endMs <= toMs);
  }

  #trim() {
    const since = this.newest.endMs - this.keepMs;
    let gone = Math.max(0, this.items.length - this.most);
    while (this.items[gone].endMs < since) gone++;
    for (const one of this.items.splice(0, gone)) this.keys.delete(one.key);
  }
}

function item(segment, key) {
  return { key, segment, endMs: Date.parse(segment.end) };
}
