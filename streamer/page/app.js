// The page: takes messages as they come, draws at most once a frame and only what changed.

import { Card } from "./card.js";
import { Events } from "./events.js";
import { Feed } from "./feed.js";

const POLL_MS = 5000;
const MINUTE_MS = 60_000;
// Fifty streams speak a hundred times a second; what is read by eye need not change more often than this.
const DRAW_MS = 100;
const $ = (id) => document.getElementById(id);

const cards = new Map();
const dirty = new Set();
const events = new Events($("events"));
const shedAt = [];
let drawing = false;
let filter = "";
let token = sessionStorage.getItem("streamer-token");

async function ask(path) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { headers, signal: AbortSignal.timeout(POLL_MS) });
  if (response.status === 401) throw new TokenNeeded();
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return response.json();
}

class TokenNeeded extends Error {}

function card(name) {
  let found = cards.get(name);
  if (!found) {
    found = new Card(name);
    cards.set(name, found);
    place(found);
  }
  return found;
}

// By name, so that a stream is found where it was the last time.
function place(added) {
  const after = [...cards.values()].filter((other) => other !== added && other.name > added.name);
  after.sort((one, other) => (one.name < other.name ? -1 : 1));
  $("wall").insertBefore(added.element, after[0]?.element ?? null);
}

function take(message) {
  if (message.type === "segment") {
    card(message.stream).takeSegment(message);
    if (message.status === "shed" && message.reason !== "no_media") shedAt.push(Date.now());
  } else if (message.type === "stream") {
    card(message.stream).takeState(message);
  }
  if (message.stream && cards.has(message.stream)) dirty.add(cards.get(message.stream));
  events.take(message);
  schedule();
}

function schedule() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => requestAnimationFrame(drawAll), DRAW_MS);
}

function drawAll() {
  drawing = false;
  for (const changed of dirty) changed.draw();
  dirty.clear();
  events.draw();
}

function set(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function drawSums() {
  const all = [...cards.values()];
  const live = all.filter((one) => one.status.state === "live");
  set("sum-live", `${live.length} of ${all.length}`);
  const answered = live.filter((one) => one.segment && one.segment.status !== "shed");
  const worst = Math.max(...answered.map((one) => one.segment.latency_ms.total));
  set("sum-worst", answered.length ? `${Math.round(worst)} ms` : "–");
  while (shedAt.length && shedAt[0] < Date.now() - MINUTE_MS) shedAt.shift();
  set("sum-shed", String(shedAt.length));
  $("sum-shed").dataset.tone = shedAt.length ? "bad" : "";
  drawLoad(live);
  const shown = all.filter((one) => (one.element.hidden = Boolean(filter) && !one.matches(filter)) === false);
  $("empty").hidden = all.length > 0;
  $("unmatched").hidden = all.length === 0 || shown.length > 0;
}

// In words that change seldom: it is read aloud when it does.
function drawLoad(live) {
  const eased = live.filter((one) => one.isDegraded).length;
  const degraded = eased ? `${eased} of ${live.length} streams degraded` : "";
  const words = shedAt.length ? `overloaded: segments are shed${degraded && `, ${degraded}`}` : degraded;
  set("load", words);
  $("load").hidden = !words;
  $("load").dataset.tone = shedAt.length ? "bad" : "";
}

async function poll() {
  try {
    const { streams } = await ask("v1/streams");
    const names = new Set(streams.map((status) => status.name));
    for (const status of streams) {
      card(status.name).takeStatus(status);
      dirty.add(cards.get(status.name));
    }
    for (const [name, gone] of cards) {
      if (names.has(name)) continue;
      gone.remove();
      dirty.delete(gone);
      cards.delete(name);
    }
    drawSums();
    schedule();
  } catch (error) {
    if (error instanceof TokenNeeded) return location.reload();
    // The websocket's state already tells that the service is away; the next poll tries again.
    console.debug(error);
  }
  setTimeout(poll, document.hidden ? 4 * POLL_MS : POLL_MS);
}

function showLink(state, waitMs) {
  document.body.dataset.link = state;
  $("link").dataset.link = state;
  const lost = waitMs < 1000 ? "connection lost, trying again" : `connection lost, trying again in ${Math.round(waitMs / 1000)} s`;
  $("link").textContent = { connecting: "connecting", open: "connected", lost }[state];
}

function askToken(wrong) {
  showLink("lost", 0);
  $("link").textContent = "token needed";
  $("token-form").hidden = false;
  $("token-error").textContent = wrong ? "This token is not known." : "";
  $("token").focus();
  $("token-form").onsubmit = (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    begin();
  };
}

async function begin() {
  try {
    const info = await ask("v1/info");
    if (token) sessionStorage.setItem("streamer-token", token);
    $("token-form").hidden = true;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const url = new URL(`${scheme}//${location.hostname}:${info.websocket_port}${info.websocket_path}`);
    if (token) url.searchParams.set("access_token", token);
    const live = () => [...cards.values()].some((one) => one.status.state === "live");
    new Feed(url, { onMessage: take, onLink: showLink, expectsTraffic: live });
    poll();
  } catch (error) {
    if (error instanceof TokenNeeded) return askToken(Boolean(token));
    showLink("lost", 2000);
    setTimeout(begin, 2000);
  }
}

$("example").textContent =
  `curl -X PUT ${location.origin}/v1/streams/door \\\n  -d '{"source": "rtsp://user:password@10.0.0.7/main"}'`;
$("filter").addEventListener("input", (event) => {
  filter = event.target.value.trim().toLowerCase();
  drawSums();
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input")) {
    event.preventDefault();
    $("filter").focus();
  } else if (event.key === "Escape" && event.target === $("filter")) {
    event.target.value = filter = "";
    drawSums();
  }
});
setInterval(() => {
  for (const one of cards.values()) one.seen && one.drawAge();
  drawSums();
}, 1000);
begin();
