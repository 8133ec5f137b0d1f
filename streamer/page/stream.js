// One stream's view: its labels over time, its latency against the bound, what is seen, heard and said now.
//
// It holds the last ten minutes and nothing else; leaving it stops every listener, timer, observer and request it has.

import { AlertStrip } from "./alerts.js";
import { Axis } from "./axis.js";
import { onTones } from "./canvas.js";
import { Refused } from "./context.js";
import { Facts } from "./facts.js";
import { LabelList } from "./labels.js";
import { segmentsBetween, timeOf } from "./history.js";
import { Plot } from "./plot.js";
import { Preview } from "./preview.js";
import { Record } from "./record.js";
import { Scene } from "./scene.js";
import { Said } from "./speech.js";
import { Table } from "./table.js";
import { Timeline } from "./timeline.js";
import { clockTime, made, mark, percent, reasonWords, set, stamp } from "./words.js";
import { openWhy } from "./why.js";

const MINUTE_MS = 60_000;
const KEPT_MS = 10 * MINUTE_MS;
// Twice what ten minutes hold at a hop of half a second.
const MOST = 2400;
const ZOOMS = [["30 s", MINUTE_MS / 2], ["2 min", 2 * MINUTE_MS], ["10 min", KEPT_MS]];
const DRAW_MS = 100;
const SHOWN_NOW = 6;
// A stream that is live and silent for longer than this is shown as waiting.
const SILENT_MS = 3000;
const RETRY_MS = 5000;

export function registerStream(context, register, alerts) {
  let view = null;
  register("/streams", {
    enter(element, params) {
      view = new StreamView(element, context, alerts, params);
    },
    update(params) {
      view.showMoment(params.query.get("at"));
    },
    leave() {
      view.close();
      view = null;
    },
    title: ({ rest }) => rest,
  });
}

class StreamView {
  constructor(element, context, alerts, { rest: name, query }) {
    Object.assign(this, { context, name });
    this.root = stamp("stream");
    element.append(this.root);
    this.status = { name, state: "connecting", since: null };
    this.record = new Record(KEPT_MS, MOST);
    this.axis = new Axis(ZOOMS[1][1]);
    this.reach = null;
    // Whether the time shown is the visitor's choice.
    this.hasChosen = false;
    this.drawing = null;
    this.isClosed = false;
    this.asking = new AbortController();
    this.#makeParts(alerts);
    this.#makeZoom();
    this.#listen();
    this.#takeStatus();
    this.showMoment(query.get("at"));
  }

  #makeParts(alerts) {
    const find = (selector) => this.root.querySelector(selector);
    const onWhy = ({ segment }, label) => this.#askWhy(segment, label);
    const onChange = () => this.#schedule(0);
    this.timeline = new Timeline(this.root, { record: this.record, axis: this.axis, onWhy, onChange });
    this.plot = new Plot(this.root, this.axis);
    this.facts = new Facts(this.root, this.name);
    this.table = new Table(find("details.table"));
    this.now = new LabelList(find(".narrow .labels"), SHOWN_NOW, (label) => this.#askWhy(this.shown, label));
    this.said = new Said(find(".said"));
    this.scene = new Scene(find(".where"));
    this.preview = new Preview(find(".preview"), this.context, this.name, this.scene);
    this.strip = new AlertStrip(find(".alerts"), alerts, this.name);
    [this.moment, this.badge] = [".moment", ".narrow .status"].map(find);
    this.moment.querySelector("a").href = `#/streams/${encodeURIComponent(this.name)}`;
  }

  #makeZoom() {
    for (const [words, spanMs] of ZOOMS) {
      const label = made("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "zoom", value: spanMs });
      input.checked = spanMs === this.axis.spanMs;
      input.addEventListener("change", () => this.#zoom(spanMs));
      label.append(input, made("span", "", words));
      this.root.querySelector(".zoom").append(label);
    }
  }

  #listen() {
    this.resize = new ResizeObserver(() => this.#schedule(0));
    this.resize.observe(this.timeline.stage);
    // Nothing is drawn that nobody sees: what is scrolled away waits until it is back.
    this.sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) target.isSeen = isIntersecting;
      this.#schedule(0);
    });
    for (const place of [this.timeline.stage, this.plot.place]) this.sight.observe(place);
    this.stops = [
      this.context.onMessage((message) => this.#take(message)),
      this.context.onStreams(() => this.#takeStatus()),
      onTones(() => this.#schedule(0)),
    ];
    this.ticking = setInterval(() => this.#schedule(), 1000);
  }

  close() {
    this.isClosed = true;
    clearInterval(this.ticking);
    for (const timer of [this.drawing, this.retrying]) clearTimeout(timer);
    for (const stop of this.stops) stop();
    this.resize.disconnect();
    this.sight.disconnect();
    this.asking.abort();
    this.preview.close();
    this.strip.close();
    this.record.clear();
  }

  // The last minutes, or those around a moment that was.
  showMoment(at) {
    this.at = at;
    clearTimeout(this.retrying);
    this.asking.abort();
    this.asking = new AbortController();
    this.record.clear();
    this.timeline.rows.clear();
    this.reach = this.axis.homeMs = null;
    this.timeline.goLive();
    this.moment.hidden = at === null;
    this.timeline.hold.hidden = at !== null;
    this.#load();
  }

  async #load() {
    const { signal } = this.asking;
    clearTimeout(this.retrying);
    try {
      if (this.at === null) await this.#fill(Date.now() - this.axis.spanMs - MINUTE_MS / 2, null, signal);
      else await this.#fillAround(this.at, signal);
      this.timeline.note = "";
    } catch (error) {
      if (signal.aborted) return;
      // What comes live is shown all the same. A store that is away comes back; a stream that is not there does not.
      this.timeline.note = `The past can't be shown: ${error.message}`;
      if (!(error instanceof Refused) || error.status >= 500) this.retrying = setTimeout(() => this.#load(), RETRY_MS);
      this.#schedule(0);
    }
  }

  // A stream that has just begun would be a strip at the edge of two minutes.
  #fitShort() {
    const { oldest, newest } = this.record;
    const shortMs = ZOOMS[0][1];
    if (this.hasChosen || this.at !== null || !oldest || newest.endMs - oldest.endMs >= shortMs) return;
    this.root.querySelector(`.zoom [value="${shortMs}"]`).click();
  }

  async #fill(sinceMs, untilMs, signal) {
    this.reach = Math.min(sinceMs, this.reach ?? sinceMs);
    const segments = await segmentsBetween(this.context, this.name, sinceMs, untilMs, signal);
    if (signal.aborted) return;
    this.record.merge(segments);
    const { newest } = this.record;
    if (newest && this.axis.newestMs === null) this.axis.arrived(newest.endMs);
    for (const { segment } of this.record.items) this.said.takeSegment(segment);
    this.#fitShort();
    this.#schedule(0);
  }

  async #fillAround(at, signal) {
    const when = await timeOf(this.context, this.name, at, signal);
    const words = this.moment.querySelector("span");
    if (when === null) return set(words, "Nothing is kept of this moment.");
    set(words, `As it was at ${new Date(when).toLocaleString([], { dateStyle: "medium", timeStyle: "medium", hour12: false })}`);
    this.#standAt(when + this.axis.spanMs / 2);
    await this.#fill(when - this.axis.spanMs / 2 - 5000, when + this.axis.spanMs / 2 + 5000, signal);
    if (signal.aborted) return;
    const item = this.record.items.find(({ endMs }) => endMs >= when) ?? this.record.newest;
    if (item) this.timeline.cursor = item;
    else set(words, "Nothing is kept of this moment.");
  }

  #zoom(spanMs) {
    const { axis } = this;
    this.hasChosen = true;
    const middleMs = axis.toMs - axis.spanMs / 2;
    axis.spanMs = spanMs;
    if (this.at !== null) this.#standAt(middleMs + spanMs / 2);
    this.#schedule(0);
    const sinceMs = axis.fromMs - MINUTE_MS / 4;
    if (this.reach === null || sinceMs >= this.reach) return;
    this.#fillFrom(sinceMs, this.at === null ? null : axis.toMs + 5000);
  }

  // What can't be had stays blank; what is shown goes on.
  #fillFrom(sinceMs, untilMs) {
    const { signal } = this.asking;
    this.#fill(sinceMs, untilMs, signal).catch((error) => signal.aborted || console.debug(error));
  }

  #standAt(toMs) {
    this.axis.homeMs = toMs;
    this.timeline.goLive();
  }

  #take(message) {
    // What this page missed of any stream may be this one's: the store has it.
    if (message.type === "gap" && this.at === null) return void this.#load();
    if (message.stream !== this.name) return;
    if (message.type === "segment") this.#takeSegment(message);
    else if (message.type === "speech") this.said.take(message);
    else if (message.type === "event" && message.state === "open") this.context.announce(`${message.label} on ${this.name}`);
    else if (message.type === "stream") {
      this.#takeStatus();
      this.context.announce(`${this.name} is ${message.state}${message.reason ? `: ${message.reason}` : ""}`);
    }
  }

  #takeSegment(segment) {
    this.said.takeSegment(segment);
    this.last = segment;
    if (this.at === null) this.#record(segment);
    this.#schedule();
  }

  #record(segment) {
    const isFirst = !this.record.items.length;
    if (!this.record.take(segment)) return;
    this.axis.arrived(this.record.newest.endMs);
    // Asked with this machine's clock nothing was found, and yet there is something: the service's clock is another.
    if (isFirst && this.reach !== null) this.#fillFrom(this.record.newest.endMs - this.axis.spanMs - MINUTE_MS / 2, null);
  }

  #takeStatus() {
    const known = this.context.stream(this.name);
    const isGone = !known && this.context.streams().length > 0;
    this.status = known ?? { ...this.status, state: isGone ? "gone" : this.status.state, reason: isGone ? "there is no stream of this name" : null };
    this.scene.takeStatus(this.status);
    this.preview.takeStatus(this.status);
    this.#schedule();
  }

  #schedule(ms = DRAW_MS) {
    if (this.drawing !== null || this.isClosed) return;
    this.drawing = setTimeout(() => requestAnimationFrame(() => this.#draw()), ms);
  }

  #draw() {
    this.drawing = null;
    if (this.isClosed) return;
    const { axis, record, timeline } = this;
    const items = record.between(axis.fromMs, axis.toMs);
    if (timeline.stage.isSeen) timeline.draw(items, this.#silence(), this.said.between(axis.fromMs, axis.toMs));
    if (this.plot.place.isSeen) this.plot.draw(items, timeline.cells, timeline.cursor);
    this.facts.draw(this.status, record.newest?.segment ?? this.last ?? null);
    const item = timeline.cursor ?? record.newest;
    this.#drawNow(item?.segment ?? null);
    this.scene.draw(item?.segment ?? null, item === record.newest && this.at === null);
    this.table.draw(items);
  }

  // What stands for time after the newest segment, once there is more of it than a segment takes.
  #silence() {
    const { state } = this.status;
    if (this.at !== null || performance.now() - this.axis.arrivedAt < SILENT_MS) return null;
    return state === "live" ? "nothing came" : state;
  }

  // What is under the cursor, or newest: one place to look at, whatever moment it is.
  #drawNow(segment) {
    this.shown = segment;
    set(this.root.querySelector("#now-title"), this.timeline.cursor && segment ? `At ${clockTime(segment.end)}` : "Now");
    if (!segment) return;
    if (segment.labels.length || segment.status !== "shed") this.now.draw(segment.labels);
    this.root.toggleAttribute("data-shed", segment.status === "shed");
    set(this.badge, segment.status === "shed" ? `shed: ${reasonWords(segment.reason)}` : segment.status);
    mark(this.badge, "data-status", segment.status);
    mark(this.badge, "title", `there: video ${percent(segment.coverage.video)}, audio ${percent(segment.coverage.audio)}`);
  }

  #askWhy(segment, label) {
    openWhy(this.context, { stream: this.name, epoch: segment.epoch, seq: segment.seq, label: label.name, segment });
  }
}
