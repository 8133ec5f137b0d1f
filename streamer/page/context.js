// What every view is given: the service's answers, its messages, and the way to other views.

import { go } from "./router.js";

const ANSWER_MS = 10_000;
const POLL_MS = 5000;
// So soon it is asked what a stream is that a message tells of first; messages of many come together.
const SOON_MS = 200;
// A screen reader that is told more often is only interrupted.
const ANNOUNCE_MS = 3000;

export class TokenNeeded extends Error {}

// An answer that is not what was asked for; `message` is the service's own sentence, made to be shown.
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

class Context {
  #token = sessionStorage.getItem("streamer-token");
  #messages = new Set();
  #changes = new Set();
  #streams = new Map();
  #labels = null;
  #said = 0;
  #saying = null;
  #polling = null;
  #isSoon = false;

  // What v1/info says ({ version, websocket_port, websocket_path, bound_ms }); null until the page is connected.
  info = null;
  go = go;

  token() {
    return this.#token;
  }

  useToken(token, remember = false) {
    this.#token = token;
    if (remember && token) sessionStorage.setItem("streamer-token", token);
  }

  // The raw Response, with the token in it; throws TokenNeeded (401), Refused (any other error answer), or what fetch throws.
  async send(path, options = {}) {
    const headers = new Headers(options.headers);
    if (this.#token) headers.set("Authorization", `Bearer ${this.#token}`);
    const response = await fetch(path, { signal: AbortSignal.timeout(ANSWER_MS), ...options, headers });
    if (response.status === 401) throw new TokenNeeded("a token is needed");
    if (!response.ok) throw new Refused(response.status, await sentence(response));
    return response;
  }

  async ask(path, options) {
    return (await this.send(path, options)).json();
  }

  async askBlob(path, options) {
    return (await this.send(path, options)).blob();
  }

  // [{ name, modalities }], asked for once.
  labels() {
    this.#labels ??= this.ask("v1/labels").then(
      ({ labels }) => labels,
      (error) => {
        this.#labels = null;
        throw error;
      },
    );
    return this.#labels;
  }

  // The last known StreamStatus of each stream, by name.
  streams() {
    return [...this.#streams.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  }

  stream(name) {
    return this.#streams.get(name);
  }

  // Hears every message of the websocket, until the function that is returned is called.
  onMessage(listener) {
    this.#messages.add(listener);
    return () => this.#messages.delete(listener);
  }

  // Hears of every answer of v1/streams, until the function that is returned is called.
  onStreams(listener) {
    this.#changes.add(listener);
    return () => this.#changes.delete(listener);
  }

  take(message) {
    if (message.type === "stream") this.#takeState(message);
    for (const listener of this.#messages) listener(message);
  }

  // A `stream` message: only what it knows better than the last answer.
  #takeState({ stream, state, reason, epoch }) {
    const known = this.#streams.get(stream);
    // One that was added just now, or came back with the service. What has ended need not be there any more.
    if (!known) return state === "ended" ? undefined : this.#pollSoon();
    const since = known.state === state ? known.since : new Date().toISOString();
    this.#streams.set(stream, { ...known, state, since, reason: reason ?? null, epoch: epoch ?? known.epoch });
  }

  async refresh() {
    const { streams } = await this.ask("v1/streams", { signal: AbortSignal.timeout(POLL_MS) });
    this.#streams = new Map(streams.map((status) => [status.name, status]));
    for (const listener of this.#changes) listener();
  }

  #pollSoon() {
    if (this.#isSoon) return;
    this.#isSoon = true;
    clearTimeout(this.#polling);
    this.#polling = setTimeout(() => this.poll(), SOON_MS);
  }

  async poll() {
    this.#isSoon = false;
    try {
      await this.refresh();
    } catch (error) {
      if (error instanceof TokenNeeded) return location.reload();
      // The websocket's state already tells that the service is away; the next poll tries again.
      console.debug(error);
    }
    if (this.#isSoon) return;
    clearTimeout(this.#polling);
    this.#polling = setTimeout(() => this.poll(), document.hidden ? 4 * POLL_MS : POLL_MS);
  }

  // Read aloud by a screen reader when it is idle; of what comes too fast, only the last.
  announce(text) {
    clearTimeout(this.#saying);
    this.#saying = setTimeout(() => {
      this.#said = performance.now();
      document.getElementById("announce").textContent = text;
    }, Math.max(0, this.#said + ANNOUNCE_MS - performance.now()));
  }
}

async function sentence(response) {
  try {
    return (await response.json()).detail ?? response.statusText;
  } catch (error) {
    if (error instanceof SyntaxError) return `the service answered ${response.status}`;
    throw error;
  }
}

export const context = new Context();
