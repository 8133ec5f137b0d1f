// The time that is shown: as long as one likes, up to the newest segment, unless it is held.

const QUIET_MS = 1500;
const STEPS_MS = [5000, 15_000, 30_000, 60_000, 120_000, 300_000];

export class Axis {
  constructor(spanMs) {
    this.spanMs = spanMs;
    this.newestMs = null;
    this.arrivedAt = 0;
    this.heldMs = null;
    // Where it stands when nobody holds it: a moment that was, or null for the newest segment.
    this.homeMs = null;
  }

  arrived(endMs) {
    this.newestMs = endMs;
    this.arrivedAt = performance.now();
  }

  hold(toMs = this.toMs) {
    this.heldMs = toMs;
  }

  release() {
    this.heldMs = this.homeMs;
  }

  get isHeld() {
    return this.heldMs !== this.homeMs;
  }

  // Time goes on where nothing comes, so that silence is seen as such.
  get toMs() {
    if (this.heldMs !== null) return this.heldMs;
    if (this.newestMs === null) return Date.now();
    return this.newestMs + Math.max(0, performance.now() - this.arrivedAt - QUIET_MS);
  }

  get fromMs() {
    return this.toMs - this.spanMs;
  }

  // From media time to pixels of a drawing `width` wide: fixed while it draws.
  scale(width) {
    const { fromMs, spanMs } = this;
    return (ms) => ((ms - fromMs) / spanMs) * width;
  }

  // Round times of day, at least `apart` pixels from one another.
  ticks(width, apart = 90) {
    const step = STEPS_MS.find((ms) => (ms / this.spanMs) * width >= apart) ?? STEPS_MS.at(-1);
    const { fromMs, toMs } = this;
    const found = [];
    for (let at = Math.ceil(fromMs / step) * step; at <= toMs; at += step) found.push(at);
    return found;
  }
}
