// One stream on the wall. Text goes in as text, never as markup; rows are kept and changed, never built anew.

import { draw, REMEMBERED } from "./spark.js";

const SHOWN = 6;
// A row keeps its place until another is this much stronger: labels that take turns at the top can't be read.
const LEAD = 0.08;
const STRONG = 0.5;
const MODALITIES = ["video", "audio", "text"];

const cardTemplate = document.getElementById("card");
const labelTemplate = document.getElementById("label");
// What is left out of a stream's work at a step of the degrade ladder.
const STEPS = { frames: "every second picture", keyframes: "pictures between key frames", video: "all pictures" };
const percent = (part) => `${Math.round(part * 100)} %`;

// Writing what is there already would cost the browser a layout all the same.
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function mark(element, attribute, value) {
  if (element.getAttribute(attribute) !== value) element.setAttribute(attribute, value);
}

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
    this.rows = new Map();
    this.order = [];
    this.seen = false;
    this.stale = true;
    this.element = cardTemplate.content.firstElementChild.cloneNode(true);
    this.element.dataset.stream = name;
    this.element.card = this;
    sight.observe(this.element);
    const find = (selector) => this.element.querySelector(selector);
    this.title = find("h3");
    this.title.textContent = name;
    this.title.title = name;
    this.title.id = `stream-${name}`;
    find("article").setAttribute("aria-labelledby", this.title.id);
    [this.group, this.state, this.reason, this.labels] = [".group", ".state", ".reason", ".labels"].map(find);
    this.less = find(".less");
    [this.none, this.badge, this.canvas, this.latency] = [".none", ".status", ".spark", ".latency"].map(find);
    this.labels.setAttribute("aria-label", `Labels of ${name}`);
    this.covers = MODALITIES.map((modality) => find(`.cover[data-modality="${modality}"]`));
    this.details = find("details");
    this.details.addEventListener("toggle", () => this.drawDetails());
    find("summary").setAttribute("aria-label", `Details of ${name}`);
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

  takeSegment(segment) {
    this.segment = segment;
    this.points.push({ ms: segment.latency_ms.total, status: segment.status });
    if (this.points.length > REMEMBERED) this.points.shift();
  }

  matches(text) {
    if (this.name.includes(text) || (this.status.group ?? "").toLowerCase().includes(text)) return true;
    return this.order.some((row) => row.name.toLowerCase().includes(text));
  }

  // What is left out of its work for want of computing power: as the service says, or as its last segment shows.
  get leftOut() {
    const steps = this.status.level ? (this.status.degraded ?? []) : (this.segment?.degraded ?? []);
    return steps.map((step) => STEPS[step] ?? step.replaceAll("_", " "));
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

  drawAge() {
    const { state, since } = this.status;
    set(this.state, since ? `${state} · ${age(Date.now() - Date.parse(since))}` : state);
  }

  drawSegment(segment) {
    if (segment.labels.length || segment.status !== "shed") this.drawLabels(segment.labels);
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

  drawLabels(labels) {
    const scores = new Map(labels.map((label) => [label.name, label]));
    const kept = this.order.filter((row) => scores.has(row.name));
    for (const label of labels) {
      const row = this.rows.get(label.name) ?? this.addRow(label.name);
      row.label = label;
      if (!kept.includes(row)) kept.push(row);
    }
    // Insertion sort with a lead: few rows, nearly in order.
    for (let from = 1; from < kept.length; from++)
      for (let at = from; at > 0 && kept[at].label.score > kept[at - 1].label.score + LEAD; at--)
        [kept[at], kept[at - 1]] = [kept[at - 1], kept[at]];
    this.order = kept.slice(0, SHOWN);
    for (const row of this.rows.values()) if (!this.order.includes(row)) this.dropRow(row);
    this.order.forEach((row, index) => {
      const there = this.labels.children[index];
      if (there !== row.element) this.labels.insertBefore(row.element, there ?? null);
      drawRow(row);
    });
  }

  addRow(name) {
    const element = labelTemplate.content.firstElementChild.cloneNode(true);
    const row = { name, element, label: null, meter: element.querySelector(".meter"), score: element.querySelector(".score") };
    element.querySelector(".name").textContent = name;
    element.querySelector(".name").title = name;
    element.dataset.label = name;
    this.rows.set(name, row);
    return row;
  }

  dropRow(row) {
    row.element.remove();
    this.rows.delete(row.name);
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

function drawRow(row) {
  const { score, share } = row.label;
  // One background instead of three boxes: a new score is a new paint, not a new layout.
  let end = 0;
  const stops = MODALITIES.map((modality) => {
    const begin = end;
    end += score * share[modality] * 100;
    return `var(--${modality}) ${begin.toFixed(1)}% ${end.toFixed(1)}%`;
  });
  row.meter.style.backgroundImage = `linear-gradient(90deg, ${stops.join(", ")}, transparent ${end.toFixed(1)}%)`;
  set(row.score, score.toFixed(2));
  row.element.toggleAttribute("data-strong", score >= STRONG);
  const rests = MODALITIES.filter((modality) => share[modality] >= 0.005).map((modality) => `${percent(share[modality])} ${modality}`);
  mark(row.element, "title", `${row.name} ${score.toFixed(2)}: ${rests.join(", ")}`);
}

// A duration in words as short as they get.
export function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}
