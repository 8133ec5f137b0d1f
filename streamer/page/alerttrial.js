// A rule tried on the past: what it would have done with the segments that are kept, before anybody is told of anything.

import { dayTime } from "./alertlog.js";
import { Bands } from "./occurrences.js";
import { age, made, set } from "./words.js";

// The service gives up before this.
const ANSWER_MS = 20_000;
const SPANS = { "1h": "the last hour", "6h": "the last 6 hours", "24h": "the last day", "7d": "the last week" };
const SHOWN = 12;
// So little missing at the beginning is not worth a word.
const SLACK_MS = 60_000;
const DAY_MS = 86_400_000;
const EXAMPLE = "label('Glass') > 0.6";
const form = document.createElement("template");
form.innerHTML = `
  <form class="draft" aria-labelledby="trial-title">
    <label class="wide"><span>when</span>
      <textarea name="when" rows="2" required maxlength="4096" spellcheck="false" autocapitalize="off" aria-describedby="trial-error"></textarea></label>
    <label><span>streams</span><input name="stream" value="*" required maxlength="64" pattern="[a-z0-9_*?\\[\\]!\\-]+" autocomplete="off" spellcheck="false" autocapitalize="off"></label>
    <label><span>holds for</span><input name="for" value="0s" required pattern="([0-9]{1,3}(ms|s|m|h|d)){1,3}" title="A time like 500ms, 1s, 2m or 1h" autocomplete="off"></label>
    <label><span>rests</span><input name="cooldown" value="60s" required pattern="([0-9]{1,3}(ms|s|m|h|d)){1,3}" title="A time like 500ms, 1s, 2m or 1h" autocomplete="off"></label>
    <label><span>in</span><select name="since"></select></label>
    <button class="button">Try</button>
    <p class="extra" hidden><span></span> <button type="button" class="button plain">Leave that out</button></p>
  </form>
  <p class="fault" id="trial-error" role="alert" hidden></p>
  <div class="found" hidden>
    <p class="sum"></p>
    <p class="note" hidden></p>
    <div class="bands" aria-hidden="true"></div>
    <ul class="bystream" role="list" aria-label="How often on each stream"></ul>
    <ol class="times" role="list" aria-label="When it would have fired"></ol>
    <p class="left" hidden></p>
  </div>`;

export class Trial {
  constructor(section, context) {
    this.context = context;
    this.section = section;
    section.append(form.content.cloneNode(true));
    const find = (selector) => section.querySelector(selector);
    [this.form, this.fault, this.found, this.sum, this.note] = [".draft", ".fault", ".found", ".sum", ".note"].map(find);
    [this.bandsElement, this.byStream, this.times, this.rest] = [".bands", ".bystream", ".times", ".left"].map(find);
    const options = Object.entries(SPANS).map(([value, text]) => Object.assign(made("option", "", text), { value }));
    this.form.elements.since.append(...options);
    this.form.elements.since.value = "24h";
    this.form.elements.when.placeholder = EXAMPLE;
    this.bands = null;
    this.asking = null;
    this.extra = {};
    find(".extra button").addEventListener("click", () => {
      this.setExtra({});
      this.form.elements.when.focus();
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    // Enter asks; a rule of more than one line is written with Shift.
    this.form.elements.when.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
  }

  free() {
    this.asking?.abort();
    this.bands?.free();
    this.bands = null;
  }

  // What a rule looks like, until one is written.
  offer([rule]) {
    if (rule) this.form.elements.when.placeholder = rule.when;
  }

  // Try this rule of the configuration, as it is; it can be changed here then.
  take(rule) {
    const { elements } = this.form;
    [elements.when.value, elements.stream.value] = [rule.when, rule.stream];
    [elements.for.value, elements.cooldown.value] = [spanText(rule.for_s), spanText(rule.cooldown_s)];
    this.setExtra({
      ...(rule.clear_when ? { clear_when: rule.clear_when } : {}),
      ...(rule.clear_for_s ? { clear_for: spanText(rule.clear_for_s) } : {}),
      ...(rule.key === "stream" ? {} : { key: rule.key }),
    });
    this.section.querySelector("h3").focus();
    this.section.scrollIntoView({ block: "start" });
    this.run();
  }

  // What else a rule of the configuration says, for which there is no field.
  setExtra(extra) {
    this.extra = extra;
    const words = Object.entries(extra).map(([name, value]) => `${name}: ${value}`);
    const line = this.form.querySelector(".extra");
    set(line.firstChild, `With ${words.join(", ")}`);
    line.hidden = !words.length;
  }

  async run() {
    if (!this.form.reportValidity()) return;
    const { when, stream, for: span, cooldown, since } = this.form.elements;
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.tell("");
    this.section.setAttribute("aria-busy", "true");
    const rule = { ...this.extra, when: when.value, stream: stream.value, for: span.value, cooldown: cooldown.value };
    try {
      const report = await this.context.ask("v1/rules/try", {
        method: "POST",
        body: JSON.stringify({ rule, since: since.value }),
        headers: { "Content-Type": "application/json" },
        signal: AbortSignal.any([asking.signal, AbortSignal.timeout(ANSWER_MS)]),
      });
      if (asking === this.asking) this.show(report);
    } catch (error) {
      if (asking === this.asking && !asking.signal.aborted) this.refuse(error);
    } finally {
      if (asking === this.asking) this.section.removeAttribute("aria-busy");
    }
  }

  refuse(error) {
    console.debug(error);
    this.found.hidden = true;
    const away = error instanceof TypeError ? "The service can't be reached." : error.message;
    this.tell(error.name === "TimeoutError" ? "It took too long; try a shorter time." : away);
    this.form.elements.when.setAttribute("aria-invalid", "true");
  }

  tell(text) {
    this.fault.hidden = !text;
    set(this.fault, text);
    if (!text) this.form.elements.when.removeAttribute("aria-invalid");
  }

  show(report) {
    const [tried] = report.rules;
    this.found.hidden = false;
    set(this.sum, summary(tried, report));
    const notes = noted(report, tried);
    set(this.note, notes);
    this.note.hidden = !notes;
    this.bands?.free();
    this.bands = null;
    this.bandsElement.hidden = report.since === null;
    if (report.since !== null) this.drawBands(tried, report);
    this.byStream.replaceChildren(...tried.streams.map(streamRow));
    this.times.replaceChildren(...tried.alerts.slice(0, SHOWN).map(timeRow));
    const left = tried.times - Math.min(SHOWN, tried.alerts.length);
    this.rest.hidden = left <= 0;
    set(this.rest, `and ${left} more`);
    this.context.announce(`${this.sum.textContent} ${notes}`);
  }

  drawBands(tried, { since, until, streams }) {
    const [first, last] = [Date.parse(since), Date.parse(until)];
    this.bands = new Bands(this.bandsElement, { since: first, until: last, names: streams }, address);
    const even = { video: 1, audio: 0, text: 0 };
    const intervals = tried.alerts.map(({ stream, since: from, until: to, label }) => ({
      stream, label: label ?? "fires", start: Date.parse(from), end: to ? Date.parse(to) : last, peak: 1, share: even,
    }));
    this.bands.draw({ intervals, oldest: new Map(), reached: new Map(streams.map((name) => [name, last])) });
    this.bands.drawTicks();
  }
}

function summary({ times, a_day: aDay, firing_s: firing }, { since, until }) {
  if (since === null) return "Nothing is kept of that time.";
  const span = age(Date.parse(until) - Date.parse(since));
  if (!times) return `It would not have fired in ${span}.`;
  return `It would have fired ${often(times)} in ${span}: ${daily(aDay)}, firing for ${age(firing * 1000)} in all.`;
}

function noted({ asked, since, cut, segments }, { failures }) {
  const notes = [];
  if (since !== null && Date.parse(since) > Date.parse(asked) + SLACK_MS) notes.push(`Nothing older than ${dayTime(since)} is kept.`);
  if (cut) notes.push(`That was as much as is read at once: ${segments} segments.`);
  if (failures) notes.push(`It could not be evaluated on ${failures} of ${segments} segments.`);
  return notes.join(" ");
}

function streamRow({ stream, times, a_day: aDay, firing_s: firing }) {
  const item = made("li");
  item.append(made("span", "name", stream), made("span", "", often(times)), made("span", "", daily(aDay)));
  item.append(made("span", "", `firing for ${age(firing * 1000)}`));
  return item;
}

function timeRow(alert) {
  const item = made("li");
  const link = made("a");
  link.href = address({ stream: alert.stream, start: Date.parse(alert.since) });
  const score = alert.label ? `${alert.label} ${alert.score.toFixed(2)}` : "";
  const lasted = alert.until ? age(Date.parse(alert.until) - Date.parse(alert.since)) : "still";
  link.append(made("time", "", dayTime(alert.at)), made("span", "where", alert.stream), made("span", "what", score), made("span", "long", lasted));
  link.firstChild.dateTime = alert.at;
  item.append(link);
  return item;
}

const often = (count) => (count === 1 ? "once" : count === 2 ? "twice" : `${count} times`);
const address = ({ stream, start }) => `#/streams/${encodeURIComponent(stream)}?at=${new Date(start).toISOString()}`;

function daily(aDay) {
  if (aDay >= 9.5) return `${Math.round(aDay)} a day`;
  if (aDay >= 0.95) return `${aDay.toFixed(1)} a day`;
  return `one in ${age(DAY_MS / aDay)}`;
}

// A time in the configuration's words, to the millisecond.
function spanText(seconds) {
  const units = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000], ["ms", 1]];
  let left = Math.round(seconds * 1000);
  const parts = units.map(([unit, ms]) => {
    const count = Math.floor(left / ms);
    left -= count * ms;
    return count ? `${count}${unit}` : "";
  });
  return parts.filter(Boolean).slice(0, 3).join("") || "0s";
}
