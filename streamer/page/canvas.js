// What all drawings share: colours of the scheme in force, sharp pixels, and the hatch of what is not there.

const NAMES = ["ground", "card", "raised", "line", "ink", "soft", "faint", "video", "audio", "text", "good", "warn", "bad", "focus"]
  .concat(["ingest", "queue", "compute", "publish"].map((stage) => `stage-${stage}`));

const listeners = new Set();
export let tones = readTones();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  tones = readTones();
  for (const listener of listeners) listener();
});

function readTones() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// Hears of another scheme, until the function that is returned is called.
export function onTones(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// The canvas cleared, at the screen's own resolution, its unit one CSS pixel; null where it takes up no room.
export function fit(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

// Diagonal lines over a box: a place where something is missing.
export function hatch(pen, x, y, width, height, tone, step = 6) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, width, height);
  pen.clip();
  pen.strokeStyle = tone;
  pen.lineWidth = 1;
  pen.beginPath();
  // Lines stand still while the box moves over them, or they would flicker.
  for (let at = Math.floor((x - height) / step) * step; at < x + width; at += step) {
    pen.moveTo(at, y + height);
    pen.lineTo(at + height, y);
  }
  pen.stroke();
  pen.restore();
}
