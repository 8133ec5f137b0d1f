// Alerts: what fires now, who was told, the rules with their snoozes, and rules tried on the past.
//
// #/alerts?rule=&stream=&state=: what the history shows.

import { AlertLog } from "./alertlog.js";
import { RuleList } from "./alertrules.js";
import { Trial } from "./alerttrial.js";
import { TokenNeeded } from "./context.js";
import { made, set } from "./words.js";

const EVERY_MS = 10_000;
// Alerts of many streams come together.
const SOON_MS = 400;
const MOST_FIRING = 200;
const A_PAGE = 50;
const STATES = { "": "all", firing: "firing", cleared: "over", dead: "not delivered" };
const EXAMPLE = `alerts:
  - name: glass
    when: "label('Glass') > 0.6"
    for: 1s
    send: [ops]
send:
  ops: {url: "\${HOOK_URL}"}`;
const frame = document.createElement("template");
frame.innerHTML = `
  <div class="alerting">
    <h2>Alerts</h2>
    <p class="trouble" role="alert" hidden></p>
    <section class="panel" aria-labelledby="firing-title">
      <header><h3 id="firing-title">Firing now</h3><span class="count"></span></header>
      <ul class="alarms firing" role="list" aria-labelledby="firing-title"></ul>
      <p class="quiet">Nothing fires.</p>
    </section>
    <section class="panel" aria-labelledby="rules-title">
      <header>
        <h3 id="rules-title">Rules</h3>
        <button type="button" class="button plain every" hidden>Snooze all for 1 hour</button>
      </header>
      <ul class="rules" role="list" aria-labelledby="rules-title"></ul>
      <div class="norules" hidden>
        <p class="quiet">No rules yet. Name them in the configuration; this is one:</p>
        <pre tabindex="0" aria-label="A rule in the configuration"><code></code></pre>
      </div>
    </section>
    <section class="panel trial" aria-labelledby="trial-title">
      <header><h3 id="trial-title" tabindex="-1">Try a rule on the past</h3></header>
    </section>
    <section class="panel" aria-labelledby="history-title">
      <header>
        <h3 id="history-title">History</h3>
        <form class="sieve" aria-label="Which alerts">
          <label><span>rule</span><select name="rule"></select></label>
          <label><span>stream</span><select name="stream"></select></label>
          <label><span>state</span><select name="state"></select></label>
        </form>
      </header>
      <ul class="alarms past-alarms" role="list" aria-labelledby="history-title"></ul>
      <p class="quiet">No alerts.</p>
      <button type="button" class="button plain older" hidden>Older alerts</button>
    </section>
  </div>`;

export function registerAlerts(context, register) {
  let view = null;
  register("/alerts", {
    enter(element, params) {
      view = new AlertView(context, element);
      view.show(params.query);
    },
    update: (params) => view.show(params.query),
    leave() {
      view.free();
      view = null;
    },
    title: () => "Alerts",
  });
}

class AlertView {
  constructor(context, element) {
    this.context = context;
    this.element = frame.content.firstElementChild.cloneNode(true);
    element.append(this.element);
    const find = (selector) => this.element.querySelector(selector);
    [this.trouble, this.sieve, this.older, this.norules] = [".trouble", ".sieve", ".older", ".norules"].map(find);
    set(find("code"), EXAMPLE);
    const failed = (error) => this.failed(error);
    const changed = () => this.load();
    this.firing = new AlertLog(find(".firing"), context, failed);
    this.count = find(".count");
    this.log = new AlertLog(find(".past-alarms"), context, failed);
    this.rules = new RuleList(find(".rules"), context, { failed, changed, tryRule: (rule) => this.trial.take(rule) });
    this.trial = new Trial(find(".trial"), context);
    this.every = find(".every");
    this.every.addEventListener("click", () => this.rules.send("*", "PUT", { for: "1h" }));
    this.query = { rule: "", stream: "", state: "" };
    // Pages of the history beyond the first, which alone is asked for again.
    this.further = [];
    this.next = null;
    this.loading = null;
    this.again = false;
    this.soon = null;
    this.gone = false;
    this.sieve.addEventListener("change", () => this.visit());
    this.older.addEventListener("click", () => this.goOn());
    this.stop = context.onMessage(({ type }) => type === "alert" && this.loadSoon());
    this.timer = setInterval(() => document.hidden || this.load(), EVERY_MS);
  }

  free() {
    this.gone = true;
    this.stop();
    clearInterval(this.timer);
    clearTimeout(this.soon);
    this.trial.free();
    this.firing.free();
    this.log.free();
  }

  // What the address says.
  show(query) {
    this.query = Object.fromEntries(["rule", "stream", "state"].map((name) => [name, query.get(name) ?? ""]));
    this.further = [];
    this.load();
  }

  visit() {
    const query = new URLSearchParams();
    for (const name of ["rule", "stream", "state"]) if (this.sieve.elements[name].value) query.set(name, this.sieve.elements[name].value);
    this.context.go(`#/alerts${query.size ? `?${query}` : ""}`);
  }

  loadSoon() {
    this.soon ??= setTimeout(() => {
      this.soon = null;
      this.load();
    }, SOON_MS);
  }

  // One round at a time; what is asked for meanwhile comes after it.
  async load() {
    if (this.loading) return void (this.again = true);
    this.loading = this.round();
    await this.loading;
    this.loading = null;
    if (!this.again || this.gone) return;
    this.again = false;
    this.load();
  }

  async round() {
    const query = this.query;
    try {
      const [{ rules }, firing, page] = await Promise.all([
        this.context.ask("v1/rules"),
        this.context.ask(`v1/alerts?state=firing&limit=${MOST_FIRING}`),
        this.context.ask(this.address(query)),
      ]);
      if (this.gone || query !== this.query) return;
      this.tell("");
      this.rules.draw(rules);
      this.norules.hidden = rules.length > 0;
      this.every.hidden = rules.length < 2;
      this.trial.offer(rules);
      this.firing.draw(firing.alerts);
      set(this.count, firing.alerts.length ? `${firing.alerts.length}${firing.next ? " and more" : ""}` : "");
      this.fillSieve(rules);
      this.first = page;
      this.drawLog();
    } catch (error) {
      this.failed(error);
    }
  }

  address({ rule, stream, state }, before = null) {
    const query = new URLSearchParams({ limit: A_PAGE });
    for (const [name, value] of Object.entries({ rule, stream, state, before })) if (value) query.set(name, value);
    return `v1/alerts?${query}`;
  }

  drawLog() {
    const known = new Set();
    const pages = [this.first, ...this.further];
    // An alert that came since pushed others onto the next page.
    const alerts = pages.flatMap((page) => page.alerts).filter(({ id }) => !known.has(id) && known.add(id));
    this.next = pages.at(-1).next;
    this.older.hidden = this.next === null;
    this.log.draw(alerts);
  }

  async goOn() {
    const query = this.query;
    this.older.disabled = true;
    try {
      const page = await this.context.ask(this.address(query, this.next));
      if (this.gone || query !== this.query) return;
      this.further.push(page);
      this.drawLog();
      this.context.announce(`${page.alerts.length} older alerts`);
    } catch (error) {
      this.failed(error);
    } finally {
      this.older.disabled = false;
    }
  }

  fillSieve(rules) {
    const names = { rule: rules.map(({ name }) => name), stream: this.context.streams().map(({ name }) => name) };
    for (const name of ["rule", "stream"]) {
      const chosen = this.query[name];
      const values = ["", ...new Set([...names[name], ...(chosen ? [chosen] : [])])];
      choices(this.sieve.elements[name], values.map((value) => [value, value || "all"]), chosen);
    }
    choices(this.sieve.elements.state, Object.entries(STATES), this.query.state in STATES ? this.query.state : "");
  }

  failed(error) {
    if (this.gone) return;
    if (error instanceof TokenNeeded) return location.reload();
    console.debug(error);
    const away = error instanceof TypeError || error.name === "TimeoutError";
    this.tell(away ? "The service can't be reached now; what is shown may be old." : `The service said: ${error.message}.`);
  }

  tell(text) {
    this.trouble.hidden = !text;
    set(this.trouble, text);
  }
}

// A list of choices is left alone where it is the same: somebody may have it open.
function choices(select, options, chosen) {
  if ([...select.options].map(({ value }) => value).join() !== options.map(([value]) => value).join())
    select.replaceChildren(...options.map(([value, text]) => Object.assign(made("option", "", text), { value })));
  if (document.activeElement !== select) select.value = chosen;
}
