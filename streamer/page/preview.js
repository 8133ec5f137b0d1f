// The stream's picture, where the configuration allows it: asked for while somebody can see it, and drawn on a canvas.
// Others who draw it get it from here, so that it is asked for once.

import { Refused } from "./context.js";

const EVERY_MS = 1500;
const WIDEST = 640;

export class Preview {
  // scene: draws the same picture in its own way, and is a place to see it.
  constructor(section, context, name, scene) {
    Object.assign(this, { section, context, name, scene });
    this.canvas = section.querySelector("canvas");
    this.canvas.setAttribute("aria-label", `The newest picture of ${name}`);
    this.places = [section, scene.figure];
    this.isAllowed = false;
    this.timer = null;
    this.asking = null;
    this.seen = new Set();
    this.sight = new IntersectionObserver((entries) => {
      const before = this.isSeen;
      for (const { target, isIntersecting } of entries) this.seen[isIntersecting ? "add" : "delete"](target);
      if (this.isSeen && !before) this.#soon(0);
    });
  }

  get isSeen() {
    return this.seen.size > 0;
  }

  // status: the stream's StreamStatus. Without leave nothing is shown and nothing asked for.
  takeStatus({ preview, picture }) {
    this.shape = picture ?? [16, 9];
    if (Boolean(preview) === this.isAllowed) return;
    this.isAllowed = Boolean(preview);
    this.section.hidden = !this.isAllowed;
    if (this.isAllowed) for (const place of this.places) this.sight.observe(place);
    else this.close();
  }

  close() {
    this.sight.disconnect();
    clearTimeout(this.timer);
    this.asking?.abort();
    this.timer = this.asking = null;
    this.isAllowed = false;
    this.seen.clear();
  }

  #soon(ms) {
    clearTimeout(this.timer);
    this.timer = this.isSeen && this.isAllowed ? setTimeout(() => this.#show(), ms) : null;
  }

  async #show() {
    if (this.asking || document.hidden) return this.#soon(EVERY_MS);
    const asking = (this.asking = new AbortController());
    const signal = AbortSignal.any([asking.signal, AbortSignal.timeout(5000)]);
    try {
      const picture = await createImageBitmap(await this.context.askBlob(`v1/streams/${encodeURIComponent(this.name)}/preview`, { signal }));
      if (!asking.signal.aborted) {
        this.#draw(picture);
        this.scene.takePicture(picture);
      }
      picture.close();
    } catch (error) {
      if (error instanceof Refused && error.status === 403) return this.takeStatus({ preview: false });
      // None yet, or the service is away: the picture stays what it was, marked as old, and is asked for again.
      this.section.toggleAttribute("data-old", true);
    } finally {
      if (this.asking === asking) this.asking = null;
    }
    this.#soon(EVERY_MS);
  }

  // What is kept is square, because the model looks at squares; shown in the camera's own shape. No object URL is made,
  // so there is none to forget.
  #draw(picture) {
    const [wide, high] = this.shape;
    const width = Math.min(wide, WIDEST);
    const height = Math.round((width * high) / wide);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
    this.section.removeAttribute("data-old");
  }
}
