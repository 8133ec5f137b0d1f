// One subscription to the websocket that heals itself: resumes from the last cursor, waits longer after each failure.

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 10_000;
// Live streams speak twice a second; a connection that is silent this long although there are some is dead.
const SILENCE_MS = 15_000;

export class Feed {
  // onMessage(message) gets every message; onLink(state, waitMs) hears "connecting", "open" and "lost".
  constructor(url, { onMessage, onLink, expectsTraffic }) {
    this.url = url;
    this.onMessage = onMessage;
    this.onLink = onLink;
    this.expectsTraffic = expectsTraffic;
    this.cursor = null;
    this.waitMs = FIRST_WAIT_MS;
    this.heardAt = performance.now();
    setInterval(() => this.checkSilence(), 1000);
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.onLink("connecting", 0);
    const url = new URL(this.url);
    if (this.cursor !== null) url.searchParams.set("since", this.cursor);
    const socket = (this.socket = new WebSocket(url));
    this.heardAt = performance.now();
    socket.onmessage = (event) => socket === this.socket && this.take(event.data);
    socket.onclose = () => socket === this.socket && this.lost();
  }

  take(data) {
    this.heardAt = performance.now();
    const message = JSON.parse(data);
    if (message.type === "hello") {
      this.waitMs = FIRST_WAIT_MS;
      this.onLink("open", 0);
      // After a resume the past comes first; until then the old cursor is the right one to go on from.
      this.cursor ??= message.cursor;
    } else if (message.type === "gap") {
      this.cursor = message.last ?? this.cursor;
    } else if (message.cursor) {
      this.cursor = message.cursor;
    }
    this.onMessage(message);
  }

  lost() {
    this.socket = null;
    // Many pages that lose one server must not all come back at the same moment.
    const waitMs = this.waitMs * (0.5 + Math.random());
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
    this.onLink("lost", waitMs);
    this.timer = setTimeout(() => this.connect(), waitMs);
  }

  retryNow() {
    if (this.timer) this.connect();
  }

  checkSilence() {
    if (!this.socket || performance.now() - this.heardAt < SILENCE_MS) return;
    if (this.socket.readyState === WebSocket.OPEN && !this.expectsTraffic()) return;
    const socket = this.socket;
    this.lost();
    socket.close();
  }
}
