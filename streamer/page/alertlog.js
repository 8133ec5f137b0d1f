// A list of alerts, each with what it says and who was told; a delivery that failed can be sent again from here.

import { age, clockTime, made, mark, percent, set, shareWords } from "./words.js";

const TOLD = { sent: "delivered", pending: "waiting", dead: "not delivered", held: "held back", quiet: "in quiet hours", snoozed: "snoozed" };
const SAYS = { firing: "fires", cleared: "is over" };
const DAY_MS = 86_400_000;
let count = 0;

export class AlertLog {
  // `failed(error)` is told of what could not be done.
  constructor(list, context, failed) {
    Object.assign(this, { list, context, failed });
    this.items = new Map();
  }

  free() {
    for (const item of this.items.values()) item.free();
    this.items.clear();
  }

  // alerts: AlertStatus, in the order in which they are shown.
  draw(alerts) {
    const ids = new Set(alerts.map(({ id }) => id));
    for (const [id, item] of this.items) {
      if (ids.has(id)) continue;
      item.free();
      this.items.delete(id);
    }
    alerts.forEach((status, place) => {
      let item = this.items.get(status.id);
      if (!item) this.items.set(status.id, (item = new Item(this)));
      if (this.list.children[place] !== item.element) this.list.insertBefore(item.element, this.list.children[place] ?? null);
      item.draw(status);
    });
  }
}

class Item {
  constructor(log) {
    this.log = log;
    this.element = made("li", "alarm");
    this.row = made("div", "line");
    [this.severity, this.what] = [made("span", "severity"), made("span", "what")];
    [this.where, this.time, this.told] = [made("a", "where"), made("time"), made("span", "fate")];
    this.more = Object.assign(made("button", "button plain", "Details"), { type: "button" });
    this.body = made("div", "body");
    this.body.hidden = true;
    this.body.id = `alarm-${++count}`;
    this.more.setAttribute("aria-controls", this.body.id);
    mark(this.more, "aria-expanded", "false");
    this.more.addEventListener("click", () => this.open(this.body.hidden));
    this.row.append(this.severity, this.what, this.where, this.time, this.told, this.more);
    this.element.append(this.row, this.body);
  }

  free() {
    this.shots?.free();
    this.element.remove();
  }

  draw(status) {
    const before = this.status;
    this.status = status;
    const { fired, told } = status;
    const over = status.state === "cleared";
    mark(this.element, "data-severity", fired.severity);
    this.element.toggleAttribute("data-cleared", over);
    set(this.severity, over ? "over" : fired.severity);
    set(this.what, fired.text || fired.rule);
    set(this.where, fired.stream);
    this.where.href = `#/streams/${encodeURIComponent(fired.stream)}?at=${encodeURIComponent(fired.since)}`;
    this.where.title = `Show that moment of ${fired.stream}`;
    this.time.dateTime = fired.at;
    set(this.time, `${dayTime(fired.at)}, ${lasting(status)}`);
    set(this.told, fate(told));
    mark(this.told, "data-tone", told.dead ? "bad" : told.pending || told.held ? "warn" : "");
    this.more.setAttribute("aria-label", `Details of ${fired.text || fired.rule}, ${fired.stream}, ${clockTime(fired.at)}`);
    if (!this.body.hidden && JSON.stringify(before) !== JSON.stringify(status)) this.ask();
  }

  open(shown) {
    this.body.hidden = !shown;
    mark(this.more, "aria-expanded", String(shown));
    if (shown) this.ask();
  }

  async ask() {
    try {
      const detail = await this.log.context.ask(`v1/alerts/${this.status.id}`);
      if (this.element.isConnected) this.fill(detail);
    } catch (error) {
      this.log.failed(error);
    }
  }

  fill({ alert, deliveries }) {
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.delivery : null;
    this.shots ??= new Shots(this.log.context);
    this.shots.show(alert.fired);
    this.body.replaceChildren(facts(alert), this.shots.element, this.deliveries(deliveries));
    if (!focused) return;
    const button = this.body.querySelector(`button[data-delivery="${CSS.escape(focused)}"]`);
    (button ?? this.more).focus();
  }

  deliveries(deliveries) {
    if (!deliveries.length) return made("p", "quiet", "Nobody is told of this rule's alerts.");
    const list = Object.assign(made("ul", "deliveries"), { role: "list" });
    list.setAttribute("aria-label", "Deliveries");
    list.append(...deliveries.map((delivery) => this.delivery(delivery)));
    return list;
  }

  delivery(delivery) {
    const { id, receiver, says, summary, state, attempts, changed, next, error } = delivery;
    const item = made("li", "delivery");
    mark(item, "data-state", state);
    const tries = attempts === 1 ? "once" : `${attempts} times`;
    const when = changed ? `, ${dayTime(changed)}` : "";
    const words = attempts ? `${TOLD[state]}, tried ${tries}${when}` : TOLD[state];
    item.append(made("span", "receiver", receiver), made("span", "says", summary ? `summary of ${summary} held back` : SAYS[says]), made("span", "fate", words));
    if (state === "pending" && next) item.append(made("span", "next", `next try ${dayTime(next)}`));
    if (state !== "pending") item.append(this.resend(id, receiver, state));
    if (error && state !== "sent") item.append(made("p", "error", error));
    return item;
  }

  resend(id, receiver, state) {
    const words = state === "sent" || state === "dead" ? "Send again" : "Send now";
    const button = Object.assign(made("button", "button plain", words), { type: "button" });
    button.dataset.delivery = id;
    button.setAttribute("aria-label", `${words} to ${receiver}`);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await this.log.context.send(`v1/alerts/deliveries/${encodeURIComponent(id)}/resend`, { method: "POST" });
        this.log.context.announce(`Sent again to ${receiver}`);
        this.more.focus();
        await this.ask();
      } catch (error) {
        button.disabled = false;
        this.log.failed(error);
      }
    });
    return button;
  }
}

// Pictures of an alert; with the token, so that they are shown from memory, and freed with the element.
class Shots {
  constructor(context) {
    this.context = context;
    this.element = made("div", "shots");
    this.asked = new Set();
    this.urls = [];
    this.gone = false;
  }

  free() {
    this.gone = true;
    for (const url of this.urls) URL.revokeObjectURL(url);
  }

  show({ id, pictures, stream }) {
    for (const address of pictures ?? []) {
      const name = address.split("/").at(-1);
      if (!this.asked.has(name)) this.ask(id, name, stream);
      this.asked.add(name);
    }
  }

  async ask(id, name, stream) {
    try {
      const blob = await this.context.askBlob(`v1/alerts/${id}/pictures/${encodeURIComponent(name)}`);
      if (this.gone) return;
      const shot = blob.type.startsWith("video/") ? Object.assign(made("video"), { controls: true, muted: true }) : made("img");
      shot.setAttribute(shot.tagName === "IMG" ? "alt" : "aria-label", `${stream} at that moment, faces blurred`);
      shot.src = URL.createObjectURL(blob);
      this.urls.push(shot.src);
      this.element.append(shot);
    } catch (error) {
      console.debug(error);
      this.asked.delete(name);
    }
  }
}

function facts({ fired, cleared, recorded }) {
  const list = made("dl", "facts");
  const put = (term, value) => value && list.append(made("dt", "", term), made("dd", "", value));
  put("rule", fired.rule);
  put("group", fired.group);
  put("began", dayTime(fired.since));
  put("fired", `${dayTime(fired.at)}, recorded ${Math.round(fired.late_ms)} ms later`);
  put("over", cleared && dayTime(cleared.at));
  put("labels", fired.labels.map((label) => `${label.name} ${label.score.toFixed(2)} (${shareWords(label.share) || percent(0)})`).join(", "));
  put("words", fired.words.join(" "));
  put("id", fired.id);
  list.title = `recorded ${recorded}`;
  return list;
}

function lasting({ state, fired, cleared }) {
  const since = Date.parse(fired.since);
  if (cleared) return `lasted ${age(Date.parse(cleared.at) - since)}`;
  return state === "firing" ? `for ${age(Date.now() - since)}` : "over";
}

function fate(told) {
  const words = Object.keys(TOLD).filter((state) => told[state]).map((state) => `${told[state]} ${TOLD[state]}`);
  return words.join(", ") || "nobody told";
}

export function dayTime(at) {
  const time = new Date(at);
  if (Math.abs(Date.now() - time) < DAY_MS && time.toDateString() === new Date().toDateString()) return clockTime(at);
  return `${time.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })}, ${clockTime(at)}`;
}
