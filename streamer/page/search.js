// The past, asked for page by page and condensed into intervals as it comes: what is kept here doesn't grow with what is read.

import { Refused } from "./context.js";

export const MOST_INTERVALS = 500;
export const MOST_PAGES = 600;
const PAGE = 500;
const AT_ONCE = 3;
const ANSWER_MS = 20_000;
// Where the store keeps nothing from before, the oldest segment may begin a window's length after what was asked for.
const SLACK_MS = 3000;
// A bark and the next one are one dog: what comes back this soon did not go.
const PAUSE_MS = 5000;

// One search over one label (null: any) of some streams. `changed()` is called whenever there is something new to show.
//
// intervals: [{ stream, label, start, end, peak, share, epoch, seq }], in no order; epoch and seq are those of the segment
//   with the highest score
// nearest: the highest score below `min`, as an interval of one segment, or null
// oldest: stream -> when the oldest segment that is kept begins, null where none is; state: "running", "done", "stopped",
//   "full" (as many intervals as are kept), "long" (as many pages as are read) or "failed" (`problem` says why)
export class Search {
  constructor(context, { label, names, since, until, min }, changed) {
    Object.assign(this, { context, label, names, since, until, min, changed });
    this.intervals = [];
    this.open = new Map();
    this.nearest = null;
    this.oldest = new Map();
    this.reached = new Map(names.map((name) => [name, since]));
    this.read = 0;
    this.pages = 0;
    this.state = "running";
    this.problem = "";
    this.abort = new AbortController();
  }

  // The part of the time asked for that was looked at, 0 to 1.
  get progress() {
    const span = Math.max(1, this.until - this.since);
    const parts = [...this.reached.values()].map((at) => Math.min(1, Math.max(0, (at - this.since) / span)));
    return parts.length ? parts.reduce((sum, part) => sum + part, 0) / parts.length : 1;
  }

  async run() {
    const waiting = [...this.names];
    const worker = async () => {
      while (waiting.length && this.state === "running") await this.stream(waiting.shift());
    };
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
      if (this.state === "running") this.end("done");
    } catch (error) {
      if (this.state !== "running") return;
      this.problem = words(error);
      this.end("failed");
    }
  }

  stop() {
    if (this.state === "running") this.end("stopped");
  }

  end(state) {
    this.state = state;
    this.abort.abort();
    this.open.clear();
    this.changed();
  }

  async stream(name) {
    const first = await this.page(name, { limit: 1 });
    this.oldest.set(name, first.segments.length ? Date.parse(first.segments[0].start) : null);
    let since = new Date(this.since).toISOString();
    const until = new Date(this.until).toISOString();
    while (first.segments.length && since !== null && this.state === "running") {
      if (this.pages >= MOST_PAGES) return this.end("long");
      const { segments, next } = await this.page(name, { since, until, limit: PAGE });
      for (const segment of segments) this.take(segment);
      this.read += segments.length;
      if (segments.length) this.reached.set(name, Date.parse(segments.at(-1).end));
      if (this.state !== "running") return;
      this.changed();
      since = next;
    }
    this.reached.set(name, this.until);
    if (this.state === "running") this.changed();
  }

  async page(name, parameters) {
    this.pages += 1;
    const signal = AbortSignal.any([this.abort.signal, AbortSignal.timeout(ANSWER_MS)]);
    try {
      return await this.context.ask(`v1/segments/${encodeURIComponent(name)}?${new URLSearchParams(parameters)}`, { signal });
    } catch (error) {
      // A stream that was removed, or of which nothing was ever stored, has no past; the others have.
      if (error instanceof Refused && error.status === 404) return { segments: [], next: null };
      throw error;
    }
  }

  take(segment) {
    for (const { name, score, share } of segment.labels) {
      if (this.label !== null && name !== this.label) continue;
      const { stream, epoch, seq, start, end } = segment;
      const found = { stream, label: name, start: Date.parse(start), end: Date.parse(end), peak: score, share, epoch, seq };
      if (score >= this.min) this.add(found, score);
      else if (score > (this.nearest?.peak ?? 0)) this.nearest = found;
    }
  }

  // Windows of one thing that goes on overlap.
  add(found, score) {
    const key = `${found.stream} ${found.label}`;
    const before = this.open.get(key);
    if (!before || found.start > before.end + PAUSE_MS || found.start < before.start) {
      if (this.intervals.length >= MOST_INTERVALS) return void (this.state === "running" && this.end("full"));
      this.intervals.push(found);
      this.open.set(key, Object.assign(found, { weight: score }));
      return;
    }
    before.end = Math.max(before.end, found.end);
    const weight = before.weight + score;
    const mean = (modality) => (before.share[modality] * before.weight + found.share[modality] * score) / weight;
    before.share = { video: mean("video"), audio: mean("audio"), text: mean("text") };
    before.weight = weight;
    if (score > before.peak) Object.assign(before, { peak: score, epoch: found.epoch, seq: found.seq });
  }

  // Streams of which the store keeps nothing from the beginning of what was asked for, with when it begins.
  get short() {
    return [...this.oldest].filter(([, at]) => at !== null && at > this.since + SLACK_MS);
  }
}

function words(error) {
  if (error instanceof Refused && error.status === 503) return `The store can't be asked now: ${error.message}.`;
  if (error.name === "TimeoutError") return `The service took longer than ${ANSWER_MS / 1000} s to answer.`;
  if (error instanceof TypeError) return "The service can't be reached.";
  return `The service said: ${error.message}.`;
}
