// "Use this camera": the visitor's own camera as a stream, with what the machine makes of it beside it.

import { devices, obstacle, OFF, open, refusal } from "./camera.js";
import { LabelList } from "./labels.js";
import { Whip } from "./whip.js";
import { openWhy } from "./why.js";
import { made, mark, percent, reasonWords, set } from "./words.js";

const NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const REMEMBERED = "streamer-camera";
const SHOWN = 8;
// A frame, so that what comes in a burst is drawn once.
const DRAW_MS = 16;
const WORDS = {
  idle: "not started",
  asking: "waiting for your permission",
  connecting: "connecting",
  live: "live",
  waiting: "connection lost",
  failed: "not published",
  stopped: "stopped",
};
const START_WORDS = { asking: "Waiting for your permission…", stopped: "Start again", failed: "Try again" };
const frame = document.createElement("template");
frame.innerHTML = `
  <div class="publish" data-phase="idle">
    <h2>Use this camera</h2>
    <p class="lead">This device becomes a camera of the service: what it sees and hears is named live.</p>
    <p class="trouble" role="alert" hidden></p>
    <form class="setup">
      <div class="fields">
        <label class="field wide"><span>Name of the stream</span>
          <input name="name" required maxlength="64" autocomplete="off" autocapitalize="none" spellcheck="false"
            aria-describedby="name-rule name-wrong">
          <small id="name-rule">1 to 64 of a-z, 0-9, _ and -, the first a letter or digit</small>
          <small class="wrong" id="name-wrong" role="alert"></small>
        </label>
        <label class="field"><span>Camera</span><select name="camera"></select></label>
        <label class="field"><span>Microphone</span><select name="microphone"></select></label>
      </div>
      <div class="promise">
        <h3>Where the pictures go</h3>
        <p>To this service, <b class="host"></b>, and nowhere else. It looks at pictures and sound as they come and holds them in
          memory for a short while only. What it stores is labels with their times, under the name of the stream.</p>
        <label class="show"><input type="checkbox" name="preview">
          Show pictures and heat maps of it to everybody who may open this page</label>
        <p class="ends">It ends when you press stop, leave this view, or close the page.</p>
      </div>
      <button class="start">Start the camera</button>
    </form>
    <div class="studio" hidden>
      <figure>
        <video autoplay muted playsinline aria-label="Your own camera"></video>
        <p class="no-picture">The camera is off: sound only.</p>
        <figcaption><span class="dot" aria-hidden="true"></span><b class="state"></b><span class="detail"></span></figcaption>
        <button type="button" class="stop">Stop</button>
      </figure>
      <section aria-labelledby="made-of-it">
        <h3 id="made-of-it">What the machine makes of it</h3>
        <ul class="labels" role="list" aria-label="Labels now"></ul>
        <p class="none">Nothing seen or heard yet.</p>
        <ul class="legend" role="list" aria-label="What a label rests on">
          <li data-modality="video">video</li><li data-modality="audio">audio</li><li data-modality="text">text</li>
        </ul>
        <dl class="facts">
          <dt>answered in</dt><dd class="latency">–</dd>
          <dt>arrives</dt><dd class="arrives">–</dd>
        </dl>
        <div class="actions">
          <button type="button" class="why-now" disabled>Why the strongest?</button>
          <a class="elsewhere" target="_blank" rel="noopener">Open the stream in another tab</a>
        </div>
      </section>
    </div>
  </div>`;

export function registerPublish(context, register) {
  let view = null;
  register("/publish", {
    enter(element) {
      view = new Publish(context, element);
    },
    leave() {
      view.free();
      view = null;
    },
    title: () => "Use this camera",
  });
}

class Publish {
  constructor(context, element) {
    this.context = context;
    this.element = frame.content.firstElementChild.cloneNode(true);
    element.append(this.element);
    const find = (selector) => this.element.querySelector(selector);
    [this.trouble, this.form, this.stage, this.video] = [".trouble", ".setup", ".studio", "video"].map(find);
    [this.state, this.detail, this.none, this.latency, this.arrives] = [".state", ".detail", ".none", ".latency", ".arrives"].map(find);
    [this.wrong, this.whyNow] = [".wrong", ".why-now"].map(find);
    this.list = new LabelList(find(".labels"), SHOWN);
    this.whip = this.media = this.segment = this.timer = null;
    this.gone = false;
    this.leaving = new AbortController();
    const on = { signal: this.leaving.signal };
    find(".host").textContent = location.host;
    this.form.elements.name.value = this.proposal();
    this.form.elements.name.addEventListener("input", () => this.checkName(), on);
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.start()), on);
    for (const choice of ["camera", "microphone"])
      this.form.elements[choice].addEventListener("change", () => this.changeDevices(), on);
    find(".stop").addEventListener("click", () => this.stop("stopped"), on);
    // In the camera's own shape, also when a phone is turned.
    this.video.addEventListener("resize", () => this.shape(), on);
    // The segment's labels come by falling score.
    this.whyNow.addEventListener("click", () => this.why(this.segment?.labels[0]?.name), on);
    find(".labels").addEventListener("click", ({ target }) => this.why(target.closest("[data-label]")?.dataset.label), on);
    const blocked = obstacle();
    this.tell(blocked);
    this.form.querySelector(".start").disabled = Boolean(blocked);
    if (blocked) return void this.offer({ cameras: [], microphones: [] });
    navigator.mediaDevices.addEventListener("devicechange", () => this.refreshDevices(), on);
    this.refreshDevices();
  }

  free() {
    this.gone = true;
    this.leaving.abort();
    this.release();
  }

  // -- before it starts -------------------------------------------------------------------------------------------------

  // The name of the last time, or one that nobody has.
  proposal() {
    const known = localStorage.getItem(REMEMBERED) ?? "";
    const mine = (name) => (this.context.stream(name)?.source ?? "whip") === "whip";
    if (NAME.test(known) && mine(known)) return known;
    const base = navigator.userAgentData?.mobile || /Mobi/.test(navigator.userAgent) ? "phone" : "webcam";
    for (let number = 1; ; number++) {
      const name = number === 1 ? base : `${base}-${number}`;
      if (!this.context.stream(name)) return name;
    }
  }

  checkName() {
    const { name } = this.form.elements;
    const tidy = name.value.toLowerCase().replace(/\s/g, "-");
    // Writing the same again would move the caret.
    if (tidy !== name.value) name.value = tidy;
    const other = this.context.stream(name.value);
    let words = "";
    if (!name.value) words = "A stream needs a name.";
    else if (!NAME.test(name.value)) words = "Only a-z, 0-9, _ and - can stand in a name, and a letter or digit comes first.";
    else if (other && other.source !== "whip") words = "A camera has this name already. Choose another one.";
    set(this.wrong, words);
    name.toggleAttribute("aria-invalid", Boolean(words));
    return !words;
  }

  async refreshDevices() {
    const found = await devices();
    if (!this.gone) this.offer(found);
  }

  offer({ cameras, microphones }) {
    const fill = (select, kind, all) => {
      const before = select.value;
      // Before permission browsers tell at most that there is one, without a name.
      const named = all.filter(({ id, name }) => id && name && id !== "default" && id !== "communications");
      const choices = all.length ? [["", `the usual ${kind}`], ...named.map(({ id, name }) => [id, name])] : [];
      choices.push([OFF, all.length ? "off" : `none found`]);
      select.replaceChildren(...choices.map(([value, text]) => Object.assign(made("option", "", text), { value })));
      select.value = choices.some(([value]) => value === before) ? before : choices[0][0];
      select.disabled = !all.length;
    };
    fill(this.form.elements.camera, "camera", cameras);
    fill(this.form.elements.microphone, "microphone", microphones);
  }

  tell(text) {
    this.trouble.hidden = !text;
    set(this.trouble, text);
  }

  // -- publishing -------------------------------------------------------------------------------------------------------

  async start() {
    if (!this.checkName()) return this.form.elements.name.focus();
    const { name, preview } = this.form.elements;
    this.name = name.value;
    const media = await this.acquire();
    if (!media) return;
    localStorage.setItem(REMEMBERED, this.name);
    this.element.querySelector(".elsewhere").href = `#/streams/${this.name}`;
    this.whip = new Whip(this.context, this.name, {
      preview: preview.checked,
      onState: (state, words) => this.show(state, words),
    });
    this.unheard = this.context.onMessage((message) => this.take(message));
    this.stage.hidden = false;
    this.show("connecting", "connecting");
    this.useMedia(media);
    this.refreshDevices();
    // The button that had the focus is not seen any more.
    this.element.querySelector(".stop").focus();
  }

  // The chosen camera and microphone, or null after saying why not.
  async acquire() {
    const { camera, microphone } = this.form.elements;
    if (camera.value === OFF && microphone.value === OFF) {
      this.tell("Camera and microphone are both off: there is nothing to publish.");
      return null;
    }
    this.tell("");
    const before = this.element.dataset.phase;
    if (!this.whip) this.show("asking", "");
    try {
      const media = await open(camera.value, microphone.value);
      if (!this.gone) return media;
      for (const track of media.getTracks()) track.stop();
    } catch (error) {
      if (this.gone) return null;
      this.tell(refusal(error, camera.value, microphone.value));
      if (!this.whip) this.show(before === "asking" ? "idle" : before, "");
    }
    return null;
  }

  async changeDevices() {
    if (!this.whip) return;
    const media = await this.acquire();
    if (!media) return;
    if (this.whip) return this.useMedia(media);
    for (const track of media.getTracks()) track.stop();
  }

  useMedia(media) {
    for (const track of this.media?.getTracks() ?? []) track.stop();
    this.media = media;
    this.video.srcObject = media;
    this.stage.toggleAttribute("data-sound-only", !media.getVideoTracks().length);
    for (const track of media.getTracks()) {
      const kind = { video: "camera", audio: "microphone" }[track.kind];
      track.onended = () => media === this.media && this.lost(kind);
      const muted = `The ${kind} gives nothing now. Is it covered, muted, or used by another program?`;
      track.onmute = () => media === this.media && this.tell(muted);
      track.onunmute = () => media === this.media && this.tell("");
    }
    this.whip.use(media);
  }

  shape() {
    const { videoWidth: width, videoHeight: height, style } = this.video;
    style.aspectRatio = width && height ? `${width} / ${height}` : "";
  }

  // A camera that is unplugged, or whose permission is taken back, ends; what is left goes on.
  lost(kind) {
    const rest = this.media.getTracks().some((track) => track.readyState === "live");
    const words = `The ${kind} is gone: it was unplugged, or its permission was taken back.`;
    if (rest) return this.tell(`${words} The rest goes on.`);
    this.stop("stopped");
    this.tell(`${words} Start again when it is back.`);
  }

  show(state, words) {
    if (this.gone) return;
    mark(this.element, "data-phase", state);
    set(this.state, WORDS[state]);
    set(this.detail, state === "live" ? `as ${this.name}` : words && words !== WORDS[state] ? words : "");
    this.form.querySelector(".start").textContent = START_WORDS[state] ?? "Start the camera";
    this.form.querySelector(".start").disabled = state === "asking";
    if (state === "failed") {
      this.release();
      this.tell(words);
    } else if (state !== "idle") this.context.announce([WORDS[state], this.detail.textContent].filter(Boolean).join(", "));
    const running = ["connecting", "live", "waiting"].includes(state);
    this.form.elements.name.disabled = this.form.elements.preview.disabled = running;
    this.stage.hidden = !running;
  }

  stop(state) {
    this.release();
    this.show(state, "");
    this.form.querySelector(".start").focus();
  }

  // Gives back camera, connection and everything that still would call.
  release() {
    clearTimeout(this.timer);
    this.timer = null;
    this.unheard?.();
    this.unheard = null;
    this.whip?.stop();
    this.whip = null;
    for (const track of this.media?.getTracks() ?? []) track.stop();
    this.media = null;
    this.video.srcObject = null;
    this.segment = null;
    this.list.draw([]);
    this.none.hidden = false;
    this.whyNow.disabled = true;
    for (const fact of [this.latency, this.arrives]) set(fact, "–");
  }

  // -- what the machine makes of it ---------------------------------------------------------------------------------------

  take(message) {
    if (message.type === "hello") this.whip?.returned();
    if (message.stream !== this.name) return;
    if (message.type === "stream" && this.element.dataset.phase === "live") this.showService(message);
    if (message.type !== "segment") return;
    this.segment = message;
    this.timer ??= setTimeout(() => this.draw(), DRAW_MS);
  }

  // The service's own view of a connection that seems fine from here.
  showService({ state, reason }) {
    const fine = state === "live" || state === "connecting";
    set(this.detail, fine ? `as ${this.name}` : `the service says ${state}${reason ? `: ${reason}` : ""}`);
  }

  draw() {
    this.timer = null;
    const { status, reason, labels, latency_ms: latency, bound_ms: bound, coverage } = this.segment;
    if (status !== "shed") this.list.draw(labels);
    this.none.hidden = this.list.order.length > 0;
    this.whyNow.disabled = !labels.length;
    const time = `${Math.round(latency.total)} ms of at most ${bound}${status === "degraded" ? ", with less work" : ""}`;
    set(this.latency, status === "shed" ? `no labels now: ${reasonWords(reason)}` : time);
    const kinds = this.media.getTracks().map(({ kind }) => kind).sort().reverse();
    const there = (kind) => `${percent(coverage[kind])} of the ${kind === "video" ? "picture" : "sound"}`;
    set(this.arrives, kinds.map(there).join(", "));
  }

  why(label) {
    const { segment } = this;
    if (!label || !segment) return;
    openWhy(this.context, { stream: segment.stream, epoch: segment.epoch, seq: segment.seq, label, segment });
  }
}
