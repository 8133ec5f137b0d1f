// One camera published by WHIP (RFC 9725): offers, is answered, trickles its candidates, begins again when the connection fails.

import { Refused, TokenNeeded } from "./context.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 10_000;
// After a session that the service ended: so long who took its place, if anybody did, needs to be seen there.
const ENDED_WAIT_MS = 2000;
const CONNECT_MS = 15_000;
// A network that changes is often back by itself after this long.
const SHAKY_MS = 3000;
// Host candidates are there at once; the others follow by PATCH, or have to be waited for where the service takes none.
const GATHER_MS = 200;
const GATHER_ALL_MS = 1000;
// A service that did not notice yet that our last connection broke holds the name for us so long.
const OURS_MS = 45_000;
// So long a service that may be away is waited for when it is told that a session ends.
const FREE_MS = 2000;
const MOST_BITS = 1_200_000;
const TAKEN = "Somebody else publishes under this name now. Choose another one, or start again to take it back.";
const SDP = { "Content-Type": "application/sdp" };

// Why nothing can be published, in words with the remedy; trying again would not help.
export class Hopeless extends Error {}

export class Whip {
  // onState(state, words): "connecting", "live", "waiting" (to try again), "failed" (for good, `words` says why).
  constructor(context, name, { preview, onState }) {
    Object.assign(this, { context, name, preview, onState });
    this.path = `v1/streams/${encodeURIComponent(name)}`;
    this.created = false;
    this.over = false;
    this.link = null;
    this.timer = null;
    this.waitMs = FIRST_WAIT_MS;
    this.liveAt = null;
    this.trickles = true;
    this.wasEnded = false;
    this.left = () => this.leave();
    addEventListener("pagehide", this.left);
  }

  // Publishes the tracks of `media`; called again it changes to those, with a new connection only where that must be.
  async use(media) {
    this.media = media;
    const senders = this.link?.peer.getSenders() ?? [];
    const kinds = media.getTracks().map(({ kind }) => kind);
    if (senders.length === kinds.length && senders.every((sender) => kinds.includes(sender.track?.kind))) {
      try {
        for (const sender of senders) await sender.replaceTrack(media.getTracks().find(({ kind }) => kind === sender.track.kind));
        return;
      } catch (error) {
        // A connection that just closed, or a track that it can't take as it is: a new one takes it.
        console.debug(error);
      }
    }
    await this.again();
  }

  async again() {
    clearTimeout(this.timer);
    this.timer = null;
    const ended = this.end();
    if (this.over) return;
    const link = { peer: null, session: null, tag: "", over: false, candidates: [], timer: null };
    this.link = link;
    this.onState("connecting", this.liveAt === null ? "connecting" : "connecting again");
    try {
      // The name is free for us only after our last session has ended.
      await ended;
      if (!link.over) await this.connect(link);
    } catch (error) {
      if (link !== this.link || this.over) return;
      const words = hopeless(error, this.name, this.liveAt !== null && performance.now() - this.liveAt < OURS_MS);
      if (words) return this.fail(words);
      console.debug(error);
      this.retry(reason(error));
    }
  }

  fail(words) {
    this.stop();
    this.onState("failed", words);
  }

  retry(why) {
    this.end();
    const seconds = Math.round(this.waitMs / 1000);
    this.onState("waiting", `${why}; trying again in ${seconds} s`);
    this.timer = setTimeout(() => this.again(), this.waitMs);
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
  }

  // The service can be reached again: it need not be waited for any longer, and may know nothing of a session from before.
  async returned() {
    if (this.over) return;
    if (this.timer !== null) {
      this.waitMs = FIRST_WAIT_MS;
      return this.again();
    }
    const { link } = this;
    if (link?.peer?.connectionState !== "connected") return;
    try {
      await this.context.refresh();
    } catch (error) {
      // Away again: its next return is told too.
      return console.debug(error);
    }
    const state = this.context.stream(this.name)?.state;
    if (link !== this.link || ["live", "stalled"].includes(state)) return;
    link.session = null;
    this.again();
  }

  async connect(link) {
    await this.ensureStream();
    const peer = new RTCPeerConnection({ iceServers: await this.iceServers(), bundlePolicy: "max-bundle" });
    if (link.over) return peer.close();
    link.peer = peer;
    for (const track of this.media.getTracks()) {
      const encodings = track.kind === "video" ? { sendEncodings: [{ maxBitrate: MOST_BITS }] } : {};
      prefer(peer.addTransceiver(track, { direction: "sendonly", streams: [this.media], ...encodings }), track.kind);
    }
    peer.onconnectionstatechange = () => this.changed(link);
    peer.onicecandidate = ({ candidate }) => {
      link.candidates.push(candidate);
      if (link.session) this.trickle(link);
    };
    await peer.setLocalDescription();
    await gathered(peer, this.trickles ? GATHER_MS : GATHER_ALL_MS);
    if (link.over) return;
    // What is in the offer need not follow it.
    link.candidates = [];
    const response = await this.context.send(`${this.path}/whip`, { method: "POST", headers: SDP, body: peer.localDescription.sdp });
    link.session = sessionOf(response);
    link.tag = response.headers.get("ETag") ?? "";
    this.trickles = Boolean(link.tag && response.headers.get("Accept-Patch"));
    if (link.over) return this.remove(link.session);
    await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
    const [{ transport }] = peer.getSenders();
    // A session that the service ends is closed by DTLS; the connection's own state would tell 10 s later.
    transport.onstatechange = () => transport.state === "closed" && this.ended(link);
    link.timer = setTimeout(() => this.broke(link, "no connection came about"), CONNECT_MS);
    if (link.candidates.length) this.trickle(link);
  }

  async ensureStream() {
    await this.context.refresh();
    const status = this.context.stream(this.name);
    // Where a second publisher may take over, each would take the stream back from the other for ever.
    if (this.wasEnded && ["live", "stalled"].includes(status?.state)) throw new Hopeless(TAKEN);
    if (status?.source === "whip") return;
    if (status) throw new Hopeless(`“${this.name}” is the name of another camera (${status.source}). Choose another name.`);
    const body = JSON.stringify({ source: "whip", ...(this.preview ? { preview: true } : {}) });
    const response = await this.context.send(this.path, { method: "PUT", headers: { "Content-Type": "application/json" }, body });
    this.created ||= response.status === 201;
  }

  async iceServers() {
    try {
      const response = await this.context.send(`${this.path}/whip`, { method: "OPTIONS" });
      return iceServers(response.headers.get("Link"));
    } catch (error) {
      // A service that answers no OPTIONS names no servers.
      if (error instanceof Refused && error.status < 500) return [];
      throw error;
    }
  }

  // One request at a time, with all the candidates there are by then (RFC 8840).
  async trickle(link) {
    if (!this.trickles || link.sending) return;
    link.sending = true;
    try {
      while (link.candidates.length && !link.over) {
        const body = fragment(link.peer.localDescription.sdp, link.candidates.splice(0));
        const headers = { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": link.tag };
        await this.context.send(link.session, { method: "PATCH", headers, body });
      }
    } catch (error) {
      // The connection may come about all the same; if not, the next offer waits for its candidates.
      this.trickles = false;
      console.debug(error);
    } finally {
      link.sending = false;
    }
  }

  changed(link) {
    if (link.over) return;
    const state = link.peer.connectionState;
    if (state === "connected") {
      clearTimeout(link.timer);
      this.waitMs = FIRST_WAIT_MS;
      this.wasEnded = false;
      this.liveAt = performance.now();
      this.onState("live", "connected");
    } else if (state === "disconnected") {
      clearTimeout(link.timer);
      this.liveAt = performance.now();
      this.onState("connecting", "the connection is shaky");
      link.timer = setTimeout(() => this.broke(link, "the connection was lost"), SHAKY_MS);
    } else if (state === "failed" || state === "closed") {
      this.broke(link, this.liveAt === null ? "no connection came about" : "the connection was lost");
    }
  }

  broke(link, why) {
    if (link.over || link !== this.link) return;
    if (this.liveAt !== null) this.liveAt = performance.now();
    this.retry(why);
  }

  // By the service, which need not be told.
  ended(link) {
    if (link.over) return;
    link.session = null;
    this.wasEnded = true;
    this.waitMs = Math.max(this.waitMs, ENDED_WAIT_MS);
    this.broke(link, "the service ended the session");
  }

  // Ends this connection; the service is told, and need not be listening.
  end() {
    const { link } = this;
    this.link = null;
    if (!link) return null;
    link.over = true;
    clearTimeout(link.timer);
    const close = () => link.peer?.close();
    if (!link.session) return close();
    // Told first: a service that sees the connection close has no such session any more when it is told.
    return Promise.race([this.remove(link.session), wait(FREE_MS)]).finally(close);
  }

  async remove(path) {
    try {
      // keepalive: a page that goes away still says that it does.
      await this.context.send(path, { method: "DELETE", keepalive: true, signal: null });
    } catch (error) {
      // Ended already, or the service is away and notices by itself.
      console.debug(error);
    }
  }

  async stop() {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.timer);
    removeEventListener("pagehide", this.left);
    await this.end();
    if (this.created) await this.remove(this.path);
  }

  // Without waiting: nothing that comes after an answer would still run.
  leave() {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.timer);
    removeEventListener("pagehide", this.left);
    this.end();
    if (this.created) this.remove(this.path);
    // A page that the browser brings back as it was must not look as if it published.
    this.onState("failed", "The session ended when this page was left. Start again.");
  }
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function sessionOf(response) {
  const url = new URL(response.headers.get("Location") ?? "", response.url);
  // The token goes nowhere else.
  if (url.origin !== location.origin) throw new Hopeless("The service names a session elsewhere; that is not followed.");
  return url.href;
}

// H.264 as every camera speaks it, else VP8: what the service decodes cheaply. The rest is left out.
function prefer(transceiver, kind) {
  if (kind !== "video" || !transceiver.setCodecPreferences) return;
  const rank = ({ mimeType, sdpFmtpLine = "" }) => {
    if (/h264/i.test(mimeType) && /packetization-mode=1/.test(sdpFmtpLine)) return /profile-level-id=42e0/i.test(sdpFmtpLine) ? 0 : 1;
    return /vp8/i.test(mimeType) ? 2 : /rtx/i.test(mimeType) ? 3 : 9;
  };
  const { codecs } = RTCRtpSender.getCapabilities(kind);
  const wanted = codecs.filter((codec) => rank(codec) < 9).sort((one, other) => rank(one) - rank(other));
  if (wanted.some((codec) => rank(codec) < 3)) transceiver.setCodecPreferences(wanted);
}

// Waits until every candidate is known, but no longer than `most` milliseconds.
function gathered(peer, most) {
  if (peer.iceGatheringState === "complete") return null;
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, most);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

// ICE candidates as application/trickle-ice-sdpfrag; null stands for the end of them.
export function fragment(sdp, candidates) {
  const line = (start) => sdp.split(/\r?\n/).find((one) => one.startsWith(start));
  const lines = [line("a=ice-ufrag:"), line("a=ice-pwd:"), line("m="), line("a=mid:")];
  for (const candidate of candidates) lines.push(candidate?.candidate ? `a=${candidate.candidate}` : "a=end-of-candidates");
  return [...new Set(lines.filter(Boolean)), ""].join("\r\n");
}

// The ICE servers of `Link` headers (RFC 9725, section 4.6), joined by commas as browsers give them.
export function iceServers(header) {
  const servers = [];
  const link = /<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^",;\s]*))*)/g;
  for (const [, url, parameters] of (header ?? "").matchAll(link)) {
    const found = new Map([...parameters.matchAll(/([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",;\s]*))/g)].map(
      ([, name, quoted, bare]) => [name.toLowerCase(), quoted === undefined ? bare : quoted.replace(/\\(.)/g, "$1")],
    ));
    if (found.get("rel") !== "ice-server") continue;
    const known = found.has("username") ? { username: found.get("username"), credential: found.get("credential") ?? "" } : {};
    servers.push({ urls: url, ...known });
  }
  return servers;
}

function hopeless(error, name, ours) {
  if (error instanceof Hopeless) return error.message;
  if (error instanceof TokenNeeded) return "The service asks for another token. Reload the page and give it one.";
  if (!(error instanceof Refused) || (error.status >= 500 && error.status !== 501)) return null;
  if (error.status === 408 || error.status === 429 || (error.status === 409 && ours) || (error.status === 404 && ours)) return null;
  const other = "If somebody else publishes under this name, choose another one.";
  if (error.status === 409) return `The service can't take “${name}” now: ${error.message}. ${other}`;
  return `The service refused: ${error.message}.`;
}

function reason(error) {
  if (error instanceof Refused) return error.message;
  if (error.name === "TimeoutError") return "the service took too long to answer";
  if (error instanceof TypeError) return "the service can't be reached";
  return error.message;
}
