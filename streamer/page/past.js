// Search in the past: what a person types becomes chips that can be changed, and an address that can be handed on.

import { Bands } from "./occurrences.js";
import { chosen, DEFAULT_SCORE, parse } from "./query.js";
import { MOST_INTERVALS, Search } from "./search.js";
import { openWhy } from "./why.js";
import { age, clockTime, made, meterOf, set, shareWords } from "./words.js";

const DAY_MS = 86_400_000;
const DRAW_MS = 150;
const EXAMPLES = [
  ["Dog", (label) => `${label}, last night`],
  ["Glass", (label) => `${label} yesterday 22:00-23:00`],
  ["Siren", (label, stream) => `${label}${stream ? ` on ${stream}` : ""} last hour`],
  ["Speech", (label) => `${label} > 0.7 today`],
];
const frame = document.createElement("template");
frame.innerHTML = `
  <div class="past">
    <h2>Search in the past</h2>
    <form class="question" role="search">
      <label class="unseen" for="past-text">What, where and when</label>
      <input id="past-text" type="search" name="text" placeholder="Dog, last night" autocomplete="off" spellcheck="false"
        enterkeyhint="search" aria-describedby="past-examples">
      <button>Search</button>
    </form>
    <p class="examples" id="past-examples"><span>For example</span></p>
    <p class="misread" role="alert" hidden></p>
    <form class="chips" aria-label="What was understood" hidden>
      <label class="chip"><span>label</span>
        <input name="label" list="past-labels" placeholder="any" autocomplete="off" spellcheck="false"></label>
      <label class="chip"><span>stream</span><select name="stream"></select></label>
      <label class="chip"><span>from</span><input name="since" type="datetime-local" required></label>
      <label class="chip"><span>to</span><input name="until" type="datetime-local" required></label>
      <label class="chip"><span>score from</span><input name="min" type="number" min="0.05" max="1" step="0.05" required></label>
      <datalist id="past-labels"></datalist>
    </form>
    <div class="outcome" hidden>
      <div class="told">
        <p class="sum"></p>
        <progress max="1" aria-label="How much was looked at"></progress>
        <button type="button" class="stop">Stop</button>
        <button type="button" class="again" hidden>Search again</button>
      </div>
      <ul class="notes" role="list"></ul>
      <div class="bands" aria-hidden="true"></div>
      <div class="hits"></div>
    </div>
  </div>`;

export function registerPast(context, register) {
  let view = null;
  register("/past", {
    enter(element, params) {
      view = new Past(context, element);
      view.show(params.query);
    },
    update: (params) => view.show(params.query),
    leave() {
      view.free();
      view = null;
    },
    title: () => "Past",
  });
}

class Past {
  constructor(context, element) {
    this.context = context;
    this.element = frame.content.firstElementChild.cloneNode(true);
    element.append(this.element);
    const find = (selector) => this.element.querySelector(selector);
    [this.question, this.examples, this.misread, this.chips] = [".question", ".examples", ".misread", ".chips"].map(find);
    [this.outcome, this.sum, this.progress, this.stop, this.again] = [".outcome", ".sum", "progress", ".stop", ".again"].map(find);
    [this.notes, this.bandsElement, this.hits] = [".notes", ".bands", ".hits"].map(find);
    this.labels = [];
    this.search = this.bands = this.timer = null;
    this.shown = new Map();
    this.gone = false;
    this.question.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask(this.question.elements.text.value);
    });
    this.chips.addEventListener("submit", (event) => event.preventDefault());
    this.chips.addEventListener("change", () => this.takeChips());
    this.stop.addEventListener("click", () => this.search?.stop());
    this.again.addEventListener("click", () => this.run(this.query));
    this.ready = this.prepare();
  }

  free() {
    this.gone = true;
    this.end();
  }

  end() {
    clearTimeout(this.timer);
    this.timer = null;
    this.search?.abort.abort();
    if (this.search) this.search.changed = () => {};
    this.search = null;
    this.bands?.free();
    this.bands = null;
    this.shown.clear();
    this.hits.replaceChildren();
    this.notes.replaceChildren();
  }

  // The names that a question may hold; without them it is asked as it was typed.
  async prepare() {
    try {
      if (!this.context.streams().length) await this.context.refresh();
      this.labels = (await this.context.labels()).map(({ name }) => name);
    } catch (error) {
      console.debug(error);
    }
    if (this.gone) return;
    const options = this.labels.map((name) => Object.assign(made("option"), { value: name }));
    this.element.querySelector("datalist").replaceChildren(...options);
    const stream = this.context.streams()[0]?.name;
    for (const [label, words] of EXAMPLES.filter(([name]) => this.labels.includes(name)).slice(0, 3)) {
      const button = Object.assign(made("button", "", words(label, stream)), { type: "button" });
      button.addEventListener("click", () => this.ask((this.question.elements.text.value = button.textContent)));
      this.examples.append(button);
    }
    this.examples.hidden = this.examples.children.length < 2;
  }

  // What the address says.
  async show(query) {
    await this.ready;
    if (this.gone) return;
    const text = query.get("q") ?? "";
    this.question.elements.text.value = text;
    if (!["label", "stream", "since", "until"].some((name) => query.has(name))) {
      if (text) return this.ask(text, true);
      this.end();
      this.chips.hidden = this.outcome.hidden = true;
      this.misread.hidden = true;
      // Where the keyboard is a part of the screen, it comes only when it is asked for.
      if (matchMedia("(hover: hover)").matches) this.question.elements.text.focus();
      return;
    }
    const now = Date.now();
    const time = (name, otherwise) => (Number.isNaN(Date.parse(query.get(name))) ? otherwise : Date.parse(query.get(name)));
    const until = time("until", now);
    const min = Number(query.get("min"));
    this.run({
      text,
      label: query.get("label") || null,
      stream: query.get("stream") ?? "",
      since: time("since", until - DAY_MS),
      until,
      min: min > 0 && min <= 1 ? min : DEFAULT_SCORE,
      unknown: query.get("unknown") ?? "",
    });
  }

  ask(text, replace = false) {
    const read = parse(text, { labels: this.labels, streams: this.context.streams(), now: Date.now() });
    // Who has no list of names believes what was typed.
    if (!this.labels.length && read.unknown) [read.label, read.unknown] = [read.unknown, ""];
    if (read.label === null && read.unknown) return this.puzzled(read);
    this.others = read.others;
    this.visit({ ...read, text }, replace);
  }

  puzzled(read) {
    this.end();
    this.outcome.hidden = true;
    this.fillChips(read);
    this.chips.elements.label.focus();
    this.tell(`No label is called “${read.unknown}”. Choose one under “label”, or leave it empty for any.`);
  }

  tell(text) {
    this.misread.hidden = !text;
    set(this.misread, text);
  }

  takeChips() {
    if (!this.chips.reportValidity()) return;
    const { label, stream, since, until, min } = this.chips.elements;
    const name = label.value.trim();
    const known = this.labels.find((one) => one.toLowerCase() === name.toLowerCase());
    if (name && this.labels.length && !known) {
      label.setCustomValidity("There is no such label.");
      label.reportValidity();
      return label.addEventListener("input", () => label.setCustomValidity(""), { once: true });
    }
    // A time that was not touched keeps its seconds, which are not shown.
    const kept = (chip, before) => (chip.value === localTime(before) ? before : new Date(chip.value).getTime());
    const times = { since: kept(since, this.filled.since), until: kept(until, this.filled.until) };
    this.others = [];
    this.visit({ text: "", label: known ?? (name || null), stream: stream.value, ...times, min: Number(min.value) }, false);
  }

  // Shows a query by its address, so that the address is always that of what is shown.
  visit({ text, label, stream, since, until, min, unknown }, replace) {
    const query = new URLSearchParams();
    if (text) query.set("q", text);
    if (label) query.set("label", label);
    if (stream) query.set("stream", stream);
    query.set("since", new Date(since).toISOString());
    query.set("until", new Date(until).toISOString());
    query.set("min", String(min));
    if (unknown) query.set("unknown", unknown);
    const hash = `#/past?${query}`;
    if (hash === location.hash) this.run(this.query);
    else this.context.go(hash, { replace });
  }

  fillChips({ label, stream, since, until, min }) {
    this.chips.hidden = false;
    this.filled = { since, until };
    const { elements } = this.chips;
    const groups = [...new Set(this.context.streams().map(({ group }) => group).filter(Boolean))].sort();
    const choices = new Map([["", "all streams"]]);
    for (const group of groups) choices.set(`group:${group}`, `group ${group}`);
    for (const { name } of this.context.streams()) choices.set(name, name);
    if (!choices.has(stream)) choices.set(stream, stream.replace("group:", "group "));
    elements.stream.replaceChildren(...[...choices].map(([value, text]) => Object.assign(made("option", "", text), { value })));
    elements.label.setCustomValidity("");
    [elements.label.value, elements.stream.value, elements.min.value] = [label ?? "", stream, String(min)];
    [elements.since.value, elements.until.value] = [localTime(since), localTime(until)];
  }

  run(query) {
    this.end();
    this.query = query;
    this.fillChips(query);
    this.tell(query.unknown ? `Not understood, and left out: “${query.unknown}”.` : "");
    if (query.since >= query.until) return this.refuse("“to” must be later than “from”.");
    if (query.since > Date.now()) return this.refuse("That time has not come yet.");
    const names = chosen(query.stream, this.context.streams());
    if (!names.length) return this.refuse("There is no such stream now.");
    this.outcome.hidden = false;
    this.search = new Search(this.context, { ...query, names }, () => this.changed());
    this.bands = new Bands(this.bandsElement, this.search, address);
    this.draw();
    this.search.run();
  }

  refuse(text) {
    this.outcome.hidden = true;
    this.tell(text);
  }

  changed() {
    if (this.timer === null) this.timer = setTimeout(() => this.draw(), DRAW_MS);
  }

  draw() {
    this.timer = null;
    const { search } = this;
    const running = search.state === "running";
    this.stop.hidden = this.progress.hidden = !running;
    this.again.hidden = !["stopped", "failed"].includes(search.state);
    this.progress.value = search.progress;
    set(this.sum, summary(search));
    this.bands.draw(search);
    this.drawHits(search.intervals);
    if (running) return;
    this.drawNotes(search);
    this.context.announce([this.sum.textContent, ...[...this.notes.children].map((note) => note.textContent)].join(" "));
  }

  drawNotes(search) {
    const notes = [];
    const note = (text, button, act) => {
      const item = made("li", "", text);
      if (button) item.append(" ", Object.assign(made("button", "", button), { type: "button", onclick: act }));
      notes.push(item);
    };
    if (search.problem) note(search.problem);
    const rest = "Choose a shorter time or a higher score for the rest.";
    if (search.state === "full") note(`These are the first ${MOST_INTERVALS}; no more are kept here. ${rest}`);
    if (search.state === "long") note(`That was as much as is read at once: ${search.read} segments. ${rest}`);
    if (search.state === "stopped") note("Stopped before all was looked at.");
    const { short } = search;
    const none = [...search.oldest].filter(([, at]) => at === null).map(([name]) => name);
    if (short.length) note(`Not kept so far back: ${listed(short.map(([name, at]) => `${name} goes back to ${dayTime(at)}`))}.`);
    if (none.length) note(`Nothing is kept of ${listed(none)}.`);
    const { nearest } = search;
    if (nearest && !search.intervals.length && search.state === "done") {
      const score = Math.max(0.05, Math.floor(nearest.peak * 20) / 20);
      const what = search.label === null ? `${nearest.label}, ` : "";
      const words = `The nearest was ${what}${nearest.peak.toFixed(2)} on ${nearest.stream}, ${dayTime(nearest.start)}.`;
      note(words, `Search from ${score.toFixed(2)}`, () => this.visit({ ...this.query, min: score }, false));
    }
    for (const other of this.others ?? [])
      note("", `Did you mean ${other}?`, () => ((this.others = []), this.visit({ ...this.query, text: "", label: other }, false)));
    this.notes.replaceChildren(...notes);
  }

  // The newest first, a list a day.
  drawHits(intervals) {
    const days = new Map([...this.hits.children].map((day) => [day.dataset.day, day]));
    const sorted = [...intervals].sort((one, other) => other.start - one.start || (one.stream < other.stream ? -1 : 1));
    const wanted = new Map();
    for (const interval of sorted) {
      const day = new Date(interval.start).toDateString();
      if (!wanted.has(day)) wanted.set(day, []);
      wanted.get(day).push(interval);
    }
    [...wanted].forEach(([day, hits], place) => {
      const section = days.get(day) ?? newDay(day, hits[0].start);
      if (this.hits.children[place] !== section) this.hits.insertBefore(section, this.hits.children[place] ?? null);
      const list = section.lastElementChild;
      hits.forEach((interval, index) => {
        const row = this.hit(interval);
        if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
      });
    });
  }

  hit(interval) {
    let row = this.shown.get(interval);
    if (!row) {
      row = made("li", "hit");
      const link = made("a");
      link.href = address(interval);
      link.append(made("time"), made("span", "what", interval.label), made("span", "where", interval.stream));
      link.append(made("span", "meter"), made("span", "score"), made("span", "long"));
      link.firstChild.dateTime = new Date(interval.start).toISOString();
      set(link.firstChild, clockTime(interval.start));
      const why = Object.assign(made("button", "why-open", "Why"), { type: "button" });
      why.setAttribute("aria-label", `Why ${interval.label} on ${interval.stream}, ${clockTime(interval.start)}`);
      why.addEventListener("click", () => openWhy(this.context, { ...interval }));
      row.append(link, why);
      this.shown.set(interval, row);
    }
    const [, , , meter, score, long] = row.firstChild.children;
    if (long.textContent === age(interval.end - interval.start) && score.textContent === interval.peak.toFixed(2)) return row;
    meter.style.backgroundImage = meterOf({ score: interval.peak, share: interval.share });
    meter.title = shareWords(interval.share);
    set(score, interval.peak.toFixed(2));
    set(long, age(interval.end - interval.start));
    return row;
  }
}

function newDay(day, at) {
  const section = made("section", "day");
  section.dataset.day = day;
  section.append(made("h3", "", new Date(at).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" })));
  section.append(Object.assign(made("ol"), { role: "list" }));
  return section;
}

function summary(search) {
  const count = search.intervals.length;
  const what = search.label ?? "any label";
  if (search.state === "running") return count ? `${times(count)} so far` : `Looking for ${what}`;
  if (!count && search.state !== "done") return "Nothing found so far.";
  if (!count) return search.label === null ? "Nothing was found." : `${search.label} was not found.`;
  const streams = [...new Set(search.intervals.map(({ stream }) => stream))].sort();
  return `${search.label ?? "Labels"} ${times(count)} on ${listed(streams)}.`;
}

const times = (count) => (count === 1 ? "once" : count === 2 ? "twice" : `${count} times`);
const address = ({ stream, start }) => `#/streams/${encodeURIComponent(stream)}?at=${new Date(start).toISOString()}`;
const joined = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
const listed = (names) => joined(names.length > 6 ? [...names.slice(0, 5), `${names.length - 5} more`] : names);

// As <input type="datetime-local"> takes it.
function localTime(at) {
  const time = new Date(at);
  return new Date(at - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function dayTime(at) {
  const day = new Date(at);
  if (day.toDateString() === new Date().toDateString()) return clockTime(at);
  return `${day.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })}, ${clockTime(at)}`;
}
