// Why: what one label of one segment rests on. One dialog at a time, gone with all it held when it closes.

import { Refused } from "./context.js";
import { HeatPicture, ramp } from "./heat.js";
import { Moments } from "./moments.js";
import { isOfPeople } from "./people.js";
import { clockTime, made, MODALITIES, set, shareWords } from "./words.js";

// How far the segment before and the next one with the same label are looked for.
const NEAR_MS = 30_000;
const NEAR_SEGMENTS = 300;
// What the label of a word begins with that is listened for.
const SAID = "said: ";
const SENSES = { video: "seen", audio: "heard", text: "said" };
// Shares that are this close say no more of one than of the other.
const ALIKE = 0.15;
const DAY = new Intl.DateTimeFormat([], { weekday: "short", day: "numeric", month: "short" });
const frame = document.createElement("template");
frame.innerHTML = `
  <dialog class="why" aria-labelledby="why-title">
    <header>
      <div><h2 id="why-title"></h2><p class="when"></p></div>
      <button type="button" class="close" aria-label="Close" title="Close (Escape)">✕</button>
    </header>
    <div class="body" aria-busy="true">
      <div class="answer" hidden>
        <section aria-label="Shares">
          <div class="shares" aria-hidden="true"></div>
          <p class="share-words" aria-live="polite"></p>
        </section>
        <section aria-label="Where in the picture">
          <figure>
            <canvas role="img"></canvas>
            <figcaption>
              <label><span>Heat map</span><input type="range" min="0" max="100" value="60" aria-label="How strong the heat map is"></label>
              <span class="ramp"><span>little</span><i></i><span>much</span></span>
            </figcaption>
          </figure>
          <p class="note" hidden></p>
        </section>
        <section class="moments" aria-label="Moments of the window"></section>
      </div>
      <p class="said" role="status" hidden></p>
    </div>
    <footer>
      <button type="button" class="before">‹ Before</button>
      <p class="place" aria-live="polite"></p>
      <button type="button" class="after">Next ›</button>
    </footer>
  </dialog>`;

let shown = null;

// `epoch`: null for the newest. `segment`: the message itself where it is at hand; it saves waiting for what it says.
export function openWhy(context, { stream, epoch = null, seq, label, segment = null }) {
  // The event that tells of closing comes later than the next panel.
  const before = shown;
  before?.element.close();
  before?.free();
  shown = new Why(context, { stream, epoch, seq, label, segment });
  return shown;
}

class Why {
  constructor(context, { stream, epoch, seq, label, segment }) {
    Object.assign(this, { context, stream, label });
    this.from = document.activeElement;
    this.element = frame.content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    [this.title, this.when, this.body, this.said, this.answer] = ["h2", ".when", ".body", ".said", ".answer"].map(find);
    [this.shares, this.shareWords, this.figure, this.canvas] = [".shares", ".share-words", "figure", "canvas"].map(find);
    [this.strength, this.note, this.place] = ["input", ".note", ".place"].map(find);
    this.steps = { before: find(".before"), after: find(".after") };
    this.moments = new Moments(find(".moments"));
    this.heat = null;
    this.known = [];
    this.leaving = new AbortController();
    this.asking = new AbortController();
    this.drawRamp(find(".ramp i"));
    const { signal } = this.leaving;
    this.strength.addEventListener("input", () => this.heat?.draw(this.strength.value / 100), { signal });
    find(".close").addEventListener("click", () => this.element.close(), { signal });
    // A click beside the panel closes it, as people expect of a sheet.
    this.element.addEventListener("click", (event) => event.target === this.element && this.element.close(), { signal });
    this.element.addEventListener("close", () => this.free(), { signal });
    this.element.addEventListener("keydown", (event) => this.key(event), { signal });
    addEventListener("hashchange", () => this.element.close(), { signal });
    this.steps.before.addEventListener("click", () => this.step("before"), { signal });
    this.steps.after.addEventListener("click", () => this.step("after"), { signal });
    document.body.append(this.element);
    this.element.showModal();
    this.show({ epoch, seq, segment });
  }

  free() {
    this.leaving.abort();
    this.asking.abort();
    this.heat?.free();
    this.heat = null;
    this.element.remove();
    if (shown === this) shown = null;
    if (this.from?.isConnected) this.from.focus({ preventScroll: true });
  }

  key(event) {
    if (event.target === this.strength) return;
    const step = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
    if (step && !this.steps[step].disabled) this.step(step);
  }

  async show({ epoch, seq, segment }) {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    [this.epoch, this.seq] = [epoch, seq];
    this.body.setAttribute("aria-busy", "true");
    const label = segment?.labels?.find(({ name }) => name === this.label);
    this.drawHead(label?.score, segment);
    if (label) this.drawShares(label.share);
    this.drawSteps();
    try {
      if (this.label.startsWith(SAID)) return void this.tellOfWords(label, segment);
      if (isOfPeople(this.label)) return await this.tellOfPeople(label, segment, signal);
      const query = new URLSearchParams({ label: this.label, ...(epoch ? { epoch } : {}) });
      const why = await this.context.ask(`v1/streams/${encodeURIComponent(this.stream)}/why/${seq}?${query}`, { signal: both(signal) });
      this.draw(why);
      await Promise.all([this.drawHeat(why, signal), this.findNear(why.start, why.end, signal)]);
    } catch (error) {
      if (signal.aborted) return;
      this.say(words(error), Boolean(label));
      if (segment) await this.findNear(segment.start, segment.end, signal).catch(console.debug);
    } finally {
      if (!signal.aborted) this.body.setAttribute("aria-busy", "false");
    }
  }

  tellOfWords(label, segment) {
    const text = segment?.speech?.text;
    this.say(text ? `It was said: “${text}”` : "It was said; the words are not kept any more.", Boolean(label));
  }

  // The model that names things knows nothing of such a label: there is no more to ask for.
  async tellOfPeople(label, segment, signal) {
    this.say(`${this.label} comes from the people who were found in the pictures, not from what was recognised in them.`, Boolean(label));
    if (segment) await this.findNear(segment.start, segment.end, signal);
  }

  // Instead of what is missing; the shares stay where the segment has told them.
  say(text, shares) {
    this.answer.hidden = !shares;
    this.figure.hidden = true;
    this.drawNote("");
    this.moments.clear();
    this.said.hidden = false;
    set(this.said, text);
  }

  drawHead(score, at) {
    this.title.replaceChildren(made("span", "", this.label), " ");
    if (score !== undefined) this.title.append(made("b", "", score.toFixed(2)));
    set(this.when, `on ${this.stream}${at ? `, ${DAY.format(new Date(at.start))} ${clockTime(at.start)} to ${clockTime(at.end)}` : ""}`);
  }

  drawShares(share) {
    this.shares.replaceChildren(
      ...MODALITIES.map((modality) => {
        const part = made("i");
        part.dataset.modality = modality;
        part.style.flexGrow = String(share[modality]);
        part.hidden = share[modality] < 0.005;
        return part;
      }),
    );
    const most = Math.max(...MODALITIES.map((modality) => share[modality]));
    const strong = MODALITIES.filter((modality) => share[modality] > most - ALIKE).map((modality) => SENSES[modality]);
    const how = strong.length > 1 ? `${strong.join(" and ")} alike` : `${most > 0.9 ? "nearly all" : "mostly"} ${strong[0]}`;
    set(this.shareWords, `${how[0].toUpperCase()}${how.slice(1)}: ${shareWords(share)}.`);
  }

  draw(why) {
    [this.epoch, this.seq] = [why.epoch, why.seq];
    this.said.hidden = true;
    this.answer.hidden = false;
    this.drawHead(why.score, why);
    this.drawShares(why.share);
    this.moments.draw(why);
    this.figure.hidden = !why.heat;
    this.drawNote(why.heat ? "" : (why.note ?? "There is no heat map for this segment"));
  }

  drawNote(text) {
    this.note.hidden = !text;
    set(this.note, text && `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`);
  }

  async drawHeat({ heat, label }, signal) {
    this.heat?.free();
    this.heat = null;
    if (!heat) return;
    try {
      const blob = await this.context.askBlob(heat.picture.replace(/^\//, ""), { signal: both(signal) });
      const picture = await createImageBitmap(blob);
      if (signal.aborted) return picture.close();
      const shape = this.context.stream(this.stream)?.picture ?? [picture.width, picture.height];
      this.heat = new HeatPicture(this.canvas, picture, heat, shape);
      this.heat.draw(this.strength.value / 100);
      this.canvas.setAttribute("aria-label", `The picture of ${clockTime(heat.at)}; ${label} is ${placeWords(heat)}`);
    } catch (error) {
      if (signal.aborted) return;
      this.figure.hidden = true;
      this.drawNote(`The picture can't be shown: ${error.message || error.name}`);
    }
  }

  drawRamp(element) {
    const stops = Array.from({ length: 8 }, (_, index) => `rgb(${ramp(index / 7).join(" ")})`);
    element.style.backgroundImage = `linear-gradient(90deg, ${stops.join(", ")})`;
  }

  // The segments around this one that have the label, from the store.
  async findNear(start, end, signal) {
    const at = this.index();
    if (at > 0 && at < this.known.length - 1) return this.drawSteps();
    const range = { since: new Date(Date.parse(start) - NEAR_MS), until: new Date(Date.parse(end) + NEAR_MS) };
    const query = new URLSearchParams({ since: range.since.toISOString(), until: range.until.toISOString(), limit: NEAR_SEGMENTS });
    const { segments } = await this.context.ask(`v1/segments/${encodeURIComponent(this.stream)}?${query}`, { signal: both(signal) });
    this.known = segments.filter((one) => one.labels.some(({ name }) => name === this.label));
    this.drawSteps();
  }

  index() {
    return this.known.findIndex((one) => one.seq === this.seq && (!this.epoch || one.epoch === this.epoch));
  }

  drawSteps() {
    const at = this.index();
    const near = at < 0 ? {} : { before: this.known[at - 1], after: this.known[at + 1] };
    for (const [way, button] of Object.entries(this.steps)) {
      const focused = document.activeElement === button;
      button.disabled = !near[way];
      button.title = near[way] ? `${this.label} ${way} this, ${clockTime(near[way].start)}` : `No ${this.label} close ${way} this`;
      // A button that is disabled under the focus would drop it out of the dialog.
      if (focused && button.disabled) this.element.querySelector(".close").focus();
    }
    set(this.place, `segment ${this.seq}`);
  }

  step(way) {
    const next = this.known[this.index() + (way === "before" ? -1 : 1)];
    if (next) this.show({ epoch: next.epoch, seq: next.seq, segment: next });
  }
}

const both = (signal) => AbortSignal.any([signal, AbortSignal.timeout(10_000)]);

function words(error) {
  if (error instanceof Refused && error.status === 404)
    return "What this label rests on is not kept any more: the pictures and sounds behind it stay in memory for a short while only.";
  if (error instanceof Refused && error.status === 503) return `The service is too busy to say: ${error.message}.`;
  if (error.name === "TimeoutError") return "The service took too long to answer.";
  if (error instanceof TypeError) return "The service can't be reached.";
  return error.message;
}

// Where the middle of the warmth is, for who can't see it.
function placeWords({ rows, columns, values }) {
  const total = values.reduce((sum, value) => sum + value, 0);
  if (!total) return "nowhere in particular";
  const mean = (place) => values.reduce((sum, value, index) => sum + value * place(index), 0) / total;
  const x = mean((index) => ((index % columns) + 0.5) / columns);
  const y = mean((index) => (Math.floor(index / columns) + 0.5) / rows);
  const side = x < 0.4 ? "left" : x > 0.6 ? "right" : "";
  const level = y < 0.4 ? "at the top" : y > 0.6 ? "at the bottom" : "in the middle";
  return side ? `mostly ${level}, ${side}` : `mostly ${level}`;
}
