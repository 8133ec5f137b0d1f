// One stream on the wall. Text goes in as text, never as markup; what is there is changed, never built anew.

import { LabelList } from "./labels.js";
import { looksForPeople, peopleWords, words } from "./people.js";
import { draw, REMEMBERED } from "./spark.js";
import { age, mark, MODALITIES, percent, set, stamp, stepWords } from "./words.js";

const SHOWN = 6;
const SAID_MS = 10_000;
const CAPTION = 90;

// Only what is on the screen is drawn.
const sight = new IntersectionObserver(
  (entries) => entries.forEach((entry) => entry.target.card.see(entry.isIntersecting)),
  { rootMargin: "200px" },
);

export class Card {
  constructor(name) {
    this.name = name;
    this.status = { name, state: "connecting", reason: null, since: null };
    this.segment = null;
    this.points = [];
    this.seen = false;
    this.stale = true;
    this.element = stamp("card");
    this.element.dataset.stream = name;
    this.element.card = this;
    sight.observe(this.element);
    const find = (selector) => this.element.querySelector(selector);
    this.title = find("h3 a");
    this.title.textContent = name;
    this.title.title = name;
    this.title.href = `#/streams/${encodeURIComponent(name)}`;
    this.title.id = `stream-${name}`;
    find("article").setAttribute("aria-labelledby", this.title.id);
    [this.group, this.state, this.reason] = [".group", ".state", ".reason"].map(find);
    this.labels = new LabelList(find(".labels"), SHOWN);
    [this.less, this.people, this.caption] = [".less", ".people", ".caption"].map(find);
    this.speech = null;
    this.people.lang = words.lang;
    [this.none, this.badge, this.canvas, this.latency] = [".none", ".status", ".spark", ".latency"].map(find);
    this.labels.element.setAttribute("aria-label", `Labels of ${name}`);
    this.covers = MODALITIES.map((modality) => find(`.cover[data-modality="${modality}"]`));
    this.details = find("details");
    this.details.addEventListener("toggle", () => this.drawDetails());
    for (const part of [this.details, find("summary")]) part.setAttribute("aria-label", `Details of ${name}`);
    this.facts = new Map();
  }

  // What GET /v1/streams says of it.
  takeStatus(status) {
    this.status = { ...this.status, ...status };
  }

  // A `stream` message: only what it knows better.
  takeState(message) {
    const entered = message.state !== this.status.state;
    this.status = { ...this.status, state: message.state, reason: message.reason ?? null, epoch: message.epoch ?? null };
    if (entered) this.status.since = new Date().toISOString();
  }

  // A `speech` message: the words of the moment.
  takeSpeech(speech) {
    this.speech = { ...speech, at: Date.now() };
  }

  takeSegment(segment) {
    this.segment = segment;
    this.points.push({ ms: segment.latency_ms.total, status: segment.status });
    if (this.points.length > REMEMBERED) this.points.shift();
  }

  matches(text) {
    if (this.name.includes(text) || (this.status.group ?? "").toLowerCase().includes(text)) return true;
    return this.labels.has(text);
  }

  // What is left out of its work for want of computing power: as the service says, or as its last segment shows.
  get leftOut() {
    const steps = this.status.level ? (this.status.degraded ?? []) : (this.segment?.degraded ?? []);
    return steps.map(stepWords);
  }

  get isDegraded() {
    return this.status.level > 0 || this.leftOut.length > 0;
  }

  see(seen) {
    this.seen = seen;
    if (seen && this.stale) this.draw();
  }

  remove() {
    sight.unobserve(this.element);
    this.element.remove();
  }

  draw() {
    this.stale = !this.seen;
    if (this.stale) return;
    this.drawState();
    this.drawPeople();
    this.drawCaption();
    if (this.segment) this.drawSegment(this.segment);
    this.drawDetails();
  }

  drawState() {
    const { state, reason, group } = this.status;
    mark(this.element, "data-state", state);
    set(this.group, group ?? "");
    this.drawAge();
    this.reason.hidden = !reason;
    set(this.reason, reason ?? "");
    const level = this.status.level ? `Degraded to level ${this.status.level}` : "Degraded";
    this.less.hidden = !this.isDegraded;
    set(this.less, this.isDegraded ? `${level}, left out: ${this.leftOut.join(", ") || "part of the work"}` : "");
    const waiting = { live: "Nothing seen or heard yet.", connecting: "Connecting to the camera.", stalled: "Nothing arrives." };
    set(this.none, waiting[state] ?? "No picture, no sound.");
  }

  drawPeople() {
    this.people.hidden = this.segment === null || !looksForPeople(this.status, this.segment);
    if (this.people.hidden) return;
    const { people } = this.segment;
    set(this.people, peopleWords(people));
    mark(this.people, "title", this.people.textContent);
    this.people.toggleAttribute("data-none", !people?.count);
  }

  // What was said last, for a while: beside labels that are of now it must not look like now.
  drawCaption() {
    const speech = this.speech && Date.now() - this.speech.at < SAID_MS && this.speech.text ? this.speech : null;
    this.caption.hidden = speech === null;
    if (speech === null) return;
    // The newest words are at the end, and the line is short.
    set(this.caption, speech.text.length > CAPTION ? `…${speech.text.slice(-CAPTION)}` : speech.text);
    mark(this.caption, "lang", speech.language ?? "");
    mark(this.caption, "title", speech.text);
    this.caption.toggleAttribute("data-partial", !speech.final);
  }

  drawAge() {
    const { state, since } = this.status;
    set(this.state, since ? `${state} · ${age(Date.now() - Date.parse(since))}` : state);
  }

  drawSegment(segment) {
    if (segment.labels.length || segment.status !== "shed") this.labels.draw(segment.labels);
    const word = segment.status === "shed" ? `shed: ${(segment.reason ?? "").replace("_", " ")}` : segment.status;
    set(this.badge, word);
    mark(this.badge, "data-status", segment.status);
    mark(this.badge, "title", segment.degraded.length ? `with less work: ${segment.degraded.join(", ")}` : "");
    MODALITIES.forEach((modality, index) => {
      const there = segment.coverage[modality];
      const cover = this.covers[index];
      const words = `${modality}: ${percent(there)} of the window was there`;
      if (cover.title === words) return;
      cover.firstElementChild.style.height = `${there * 100}%`;
      cover.title = words;
      mark(cover, "aria-label", words);
    });
    mark(this.element, "data-answered", "");
    this.element.toggleAttribute("data-shed", segment.status === "shed");
    draw(this.canvas, this.points, segment.bound_ms);
    const total = Math.round(segment.latency_ms.total);
    if (!this.latency.firstChild) this.latency.append(document.createElement("b"), document.createElement("span"));
    set(this.latency.firstChild, String(total));
    set(this.latency.lastChild, ` / ${segment.bound_ms} ms`);
    mark(this.canvas, "aria-label", `latency ${total} of at most ${segment.bound_ms} milliseconds`);
  }

  drawDetails() {
    if (!this.details.open) return;
    const { source, epoch, fps, lag_ms: lag, drops, reconnects } = this.status;
    const stages = this.segment?.latency_ms ?? {};
    const ms = (value) => (value === undefined ? "–" : `${Math.round(value)} ms`);
    const lost = Object.entries(drops ?? {}).map(([reason, count]) => `${count} ${reason}`);
    this.fact("source", source ?? "–");
    this.fact("epoch, segment", this.segment ? `${this.segment.epoch}, ${this.segment.seq}` : (epoch ?? "–"));
    this.fact("frames a second", fps === undefined ? "–" : fps.toFixed(1));
    this.fact("lag on arrival", ms(lag));
    this.fact("stages", `${ms(stages.ingest)} ingest, ${ms(stages.queue)} queue, ${ms(stages.compute)} compute, ${ms(stages.publish)} publish`);
    this.fact("left out", this.leftOut.join(", ") || "nothing");
    this.fact("not used", lost.join(", ") || "nothing");
    this.fact("reconnects", String(reconnects ?? 0));
  }

  fact(term, text) {
    let place = this.facts.get(term);
    if (!place) {
      const name = document.createElement("dt");
      name.textContent = term;
      place = document.createElement("dd");
      this.details.querySelector("dl").append(name, place);
      this.facts.set(term, place);
    }
    set(place, text);
  }
}
