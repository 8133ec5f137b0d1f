// The rules of the configuration: what each asks for, what it did, and snoozes: alerts are recorded, and nobody is told.

import { dayTime } from "./alertlog.js";
import { age, made, mark, set } from "./words.js";

const SPANS = { "30m": "30 min", "2h": "2 hours", "8h": "8 hours", "1d": "1 day", "7d": "1 week" };

export class RuleList {
  // failed(error), changed() after a snooze, tryRule(rule) for one to be tried.
  constructor(list, context, { failed, changed, tryRule }) {
    Object.assign(this, { list, context, failed, changed, tryRule });
    this.items = new Map();
  }

  // rules: RuleStatus, in the configuration's order.
  draw(rules) {
    const names = new Set(rules.map(({ name }) => name));
    for (const [name, item] of this.items) {
      if (names.has(name)) continue;
      item.element.remove();
      this.items.delete(name);
    }
    rules.forEach((rule, place) => {
      let item = this.items.get(rule.name);
      if (!item) this.items.set(rule.name, (item = new Item(this, rule.name)));
      if (this.list.children[place] !== item.element) this.list.insertBefore(item.element, this.list.children[place] ?? null);
      item.draw(rule);
    });
  }

  // name: a rule's, or * for all of them.
  async send(name, method, body = null, query = "") {
    const more = body === null ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    try {
      await this.context.send(`v1/rules/${encodeURIComponent(name)}/snooze${query}`, { method, ...more });
      const what = name === "*" ? "All rules are" : `${name} is`;
      this.context.announce(`${what} ${method === "PUT" ? "snoozed" : "awake"}`);
      this.changed();
    } catch (error) {
      this.failed(error);
    }
  }
}

class Item {
  constructor(rules, name) {
    this.rules = rules;
    this.element = made("li", "rule");
    const head = made("div", "head");
    [this.severity, this.state] = [made("span", "severity"), made("span", "state")];
    const title = made("a", "name", name);
    title.href = `#/alerts?rule=${encodeURIComponent(name)}`;
    title.title = "Its alerts";
    head.append(title, this.severity, this.state);
    [this.when, this.settings] = [made("code", "when"), made("p", "settings")];
    this.snoozes = made("div", "snoozes");
    this.span = made("select");
    this.span.setAttribute("aria-label", `How long to snooze ${name}`);
    this.span.append(...Object.entries(SPANS).map(([value, text]) => Object.assign(made("option", "", text), { value })));
    this.span.value = "2h";
    const attempt = this.button("Try on the past", `Try ${name} on the past`, () => this.rules.tryRule(this.rule));
    const snooze = this.button("Snooze", `Snooze ${name}`, () => rules.send(name, "PUT", { for: this.span.value }));
    const acts = made("div", "acts");
    acts.append(attempt, this.span, snooze);
    this.element.append(head, this.when, this.settings, this.snoozes, acts);
  }

  button(text, label, act) {
    const button = Object.assign(made("button", "button plain", text), { type: "button" });
    button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    return button;
  }

  draw(rule) {
    this.rule = rule;
    mark(this.element, "data-severity", rule.severity);
    set(this.severity, rule.severity);
    set(this.when, rule.when);
    set(this.settings, settings(rule));
    const last = rule.last_fired ? `fired ${age(Date.now() - Date.parse(rule.last_fired))} ago` : "has not fired";
    set(this.state, rule.firing ? `${rule.firing} firing now` : last);
    this.state.toggleAttribute("data-firing", rule.firing > 0);
    this.drawSnoozes(rule.snoozes);
  }

  drawSnoozes(snoozes) {
    const drawn = JSON.stringify(snoozes);
    if (this.snoozes.dataset.drawn === drawn) return;
    const focused = this.snoozes.contains(document.activeElement);
    this.snoozes.dataset.drawn = drawn;
    this.snoozes.replaceChildren(...snoozes.map((snooze) => this.snooze(snooze)));
    if (focused) (this.snoozes.querySelector("button") ?? this.span).focus();
  }

  snooze({ rule, stream, until }) {
    const row = made("p", "snooze");
    const what = [rule === null && "all rules", stream !== null && `streams like ${stream}`].filter(Boolean).join(", ");
    const words = `Snoozed until ${dayTime(until)}${what ? ` (${what})` : ""}`;
    const query = stream === null ? "" : `?stream=${encodeURIComponent(stream)}`;
    const label = `Wake ${rule ?? "all rules"}${stream === null ? "" : ` on ${stream}`}`;
    row.append(made("span", "", words), this.button("Wake", label, () => this.rules.send(rule ?? "*", "DELETE", null, query)));
    return row;
  }
}

function settings({ stream, key, for_s, clear_when, clear_for_s, cooldown_s, send }) {
  const parts = [stream === "*" ? "all streams" : `streams like ${stream}`];
  if (key !== "stream") parts.push(key === "group" ? "one alert a group" : "one alert in all");
  if (for_s) parts.push(`when it holds for ${age(for_s * 1000)}`);
  if (clear_when) parts.push(`over when ${clear_when}`);
  if (clear_for_s) parts.push(`over after ${age(clear_for_s * 1000)}`);
  parts.push(`then rests ${age(cooldown_s * 1000)}`);
  parts.push(send.length ? `tells ${send.join(", ")}` : "tells nobody");
  return parts.join(" · ");
}
