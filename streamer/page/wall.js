// The wall: one card a stream with what is heard and seen now, drawn at most once a frame and only what changed.

import { AlertStrip } from "./alerts.js";
import { Card } from "./card.js";
import { Events } from "./events.js";
import { set } from "./words.js";

const MINUTE_MS = 60_000;
// Fifty streams speak a hundred times a second; what is read by eye need not change more often than this.
const DRAW_MS = 100;
// Sheds counted by the minute: more than this many are "many" all the same.
const COUNTED = 5000;
const $ = (id) => document.getElementById(id);

export class Wall {
  constructor(context, alerts) {
    this.context = context;
    this.cards = new Map();
    this.dirty = new Set();
    this.events = new Events($("events"));
    this.shedAt = [];
    this.filter = "";
    this.drawing = false;
    this.shown = false;
    this.element = $("wall-view");
    new AlertStrip($("alerts"), alerts);
    $("example").textContent =
      `curl -X PUT ${location.origin}/v1/streams/door \\\n  -d '{"source": "rtsp://user:password@10.0.0.7/main"}'`;
    $("filter").addEventListener("input", () => this.#narrow($("filter").value));
    context.onMessage((message) => this.#take(message));
    context.onStreams(() => this.#takeStreams());
    setInterval(() => this.#tick(), 1000);
  }

  // A card lives as long as its stream, so that coming back finds everything where it was; hidden, nothing is drawn.
  enter() {
    this.shown = true;
    for (const card of this.cards.values()) this.dirty.add(card);
    this.#tick();
    this.#schedule();
  }

  leave() {
    this.shown = false;
  }

  takeKey(event) {
    if (!this.shown) return;
    if (event.key === "/" && !event.target.closest("input, dialog")) {
      event.preventDefault();
      $("filter").focus();
    } else if (event.key === "Escape" && event.target === $("filter")) {
      event.target.value = "";
      this.#narrow("");
    }
  }

  #narrow(text) {
    this.filter = text.trim().toLowerCase();
    this.#drawSums();
  }

  #card(name) {
    let found = this.cards.get(name);
    if (!found) {
      found = new Card(name);
      this.cards.set(name, found);
      this.#place(found);
    }
    return found;
  }

  // By name, so that a stream is found where it was the last time.
  #place(added) {
    const after = [...this.cards.values()].filter((other) => other !== added && other.name > added.name);
    after.sort((one, other) => (one.name < other.name ? -1 : 1));
    $("wall").insertBefore(added.element, after[0]?.element ?? null);
  }

  #take(message) {
    if (message.type === "segment") {
      this.#card(message.stream).takeSegment(message);
      if (message.status === "shed" && message.reason !== "no_media") this.shedAt.push(Date.now());
      if (this.shedAt.length > COUNTED) this.shedAt.shift();
    } else if (message.type === "speech") {
      this.cards.get(message.stream)?.takeSpeech(message);
    } else if (message.type === "stream") {
      this.#card(message.stream).takeState(message);
    }
    if (message.stream && this.cards.has(message.stream)) this.dirty.add(this.cards.get(message.stream));
    this.events.take(message);
    this.#schedule();
  }

  #takeStreams() {
    const streams = this.context.streams();
    const names = new Set(streams.map((status) => status.name));
    for (const status of streams) {
      const card = this.#card(status.name);
      card.takeStatus(status);
      this.dirty.add(card);
    }
    for (const [name, gone] of this.cards) {
      if (names.has(name)) continue;
      gone.remove();
      this.dirty.delete(gone);
      this.cards.delete(name);
    }
    this.#drawSums();
    this.#schedule();
  }

  #schedule() {
    if (this.drawing || !this.shown) return;
    this.drawing = true;
    setTimeout(() => requestAnimationFrame(() => this.#drawAll()), DRAW_MS);
  }

  #drawAll() {
    this.drawing = false;
    for (const changed of this.dirty) changed.draw();
    this.dirty.clear();
    this.events.draw();
  }

  #tick() {
    this.#drawSums();
    if (this.shown) for (const card of this.cards.values()) if (card.seen) card.drawAge();
  }

  // Whether a stream is live, so that silence means a lost connection.
  get expectsTraffic() {
    return [...this.cards.values()].some((card) => card.status.state === "live");
  }

  #drawSums() {
    const all = [...this.cards.values()];
    const live = all.filter((card) => card.status.state === "live");
    set($("sum-live"), `${live.length} of ${all.length}`);
    const answered = live.filter((card) => card.segment && card.segment.status !== "shed");
    const worst = Math.max(...answered.map((card) => card.segment.latency_ms.total));
    set($("sum-worst"), answered.length ? `${Math.round(worst)} ms` : "–");
    while (this.shedAt.length && this.shedAt[0] < Date.now() - MINUTE_MS) this.shedAt.shift();
    set($("sum-shed"), this.shedAt.length > COUNTED - 1 ? "many" : String(this.shedAt.length));
    $("sum-shed").dataset.tone = this.shedAt.length ? "bad" : "";
    this.#drawLoad(live);
    const shown = all.filter((card) => (card.element.hidden = Boolean(this.filter) && !card.matches(this.filter)) === false);
    $("empty").hidden = all.length > 0;
    $("unmatched").hidden = all.length === 0 || shown.length > 0;
  }

  // In words that change seldom: it is read aloud when it does.
  #drawLoad(live) {
    const eased = live.filter((card) => card.isDegraded).length;
    const degraded = eased ? `${eased} of ${live.length} streams degraded` : "";
    const words = this.shedAt.length ? `overloaded: segments are shed${degraded && `, ${degraded}`}` : degraded;
    set($("load"), words);
    $("load").hidden = !words;
    $("load").dataset.tone = this.shedAt.length ? "bad" : "";
  }
}
