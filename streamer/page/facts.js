// The state of the open stream in words: its head, and the list of its figures.

import { age, levelWords, mark, percent, set, stepWords } from "./words.js";

const WAITING = { live: "Nothing seen or heard yet.", connecting: "Waits for picture and sound.", stalled: "Nothing arrives." };

export class Facts {
  constructor(root, name) {
    const find = (selector) => root.querySelector(selector);
    this.root = root;
    [this.group, this.state, this.reason] = [".head .group", ".head .state", ".head .reason"].map(find);
    [this.list, this.none] = [".facts", ".narrow .none"].map(find);
    set(find("h2"), name);
    find("h2").title = name;
    this.places = new Map();
  }

  // status: StreamStatus; segment: the newest, or null.
  draw(status, segment) {
    mark(this.root, "data-state", status.state);
    set(this.group, status.group ?? "");
    this.drawAge(status);
    set(this.reason, status.reason ?? "");
    this.reason.hidden = !status.reason;
    set(this.none, WAITING[status.state] ?? "No picture, no sound.");
    this.#drawFigures(status, segment);
  }

  drawAge({ state, since }) {
    set(this.state, since ? `${state} for ${age(Date.now() - Date.parse(since))}` : state);
  }

  #drawFigures(status, segment) {
    const steps = status.level ? status.degraded : (segment?.degraded ?? []);
    const drops = Object.entries(status.drops ?? {}).map(([reason, count]) => `${count} ${reason.replaceAll("_", " ")}`);
    const there = segment?.coverage ?? status.coverage;
    const has = (value, words) => (value === undefined || value === null ? "–" : words(value));
    this.#put("pictures a second", has(status.fps, (fps) => fps.toFixed(1)));
    this.#put("lag on arrival", has(status.lag_ms, (ms) => `${Math.round(ms)} ms`));
    this.#put("of the window there", has(there, ({ video, audio }) => `video ${percent(video)}, audio ${percent(audio)}`));
    this.#put("work", has(status.level, (level) => (level ? `level ${level}: ${levelWords(level)}` : steps.length ? `without ${steps.map(stepWords).join(", ")}` : levelWords(0))));
    this.#put("not used", drops.join(", ") || "nothing");
    this.#put("reconnects", String(status.reconnects ?? 0));
    this.#put("epoch, segment", segment ? `${segment.epoch}, ${segment.seq}` : (status.epoch ?? "–"));
    this.#put("weight", has(status.weight, String));
    this.#put("source", status.source ?? "–");
  }

  #put(term, text) {
    let place = this.places.get(term);
    if (!place) {
      const name = document.createElement("dt");
      name.textContent = term;
      place = document.createElement("dd");
      this.list.append(name, place);
      this.places.set(term, place);
    }
    set(place, text);
  }
}
