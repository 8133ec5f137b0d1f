// Figures in words, and the few ways in which the page writes to its own elements.

export const MODALITIES = ["video", "audio", "text"];
// What is left out of a stream's work at a step of the degrade ladder.
const STEPS = { frames: "every second picture", keyframes: "pictures between key frames", video: "all pictures", speech: "listening to what is said" };
const LEVELS = ["all work is done", "every second picture is left out", "pictures between key frames are left out", "all pictures are left out"];
const REASONS = { overload: "too much to do", no_media: "nothing arrived", engine: "the engine failed", draining: "shutting down" };

export const percent = (part) => `${Math.round(part * 100)} %`;
export const stepWords = (step) => STEPS[step] ?? step.replaceAll("_", " ");
export const levelWords = (level) => LEVELS[level] ?? `level ${level}`;
export const reasonWords = (reason) => REASONS[reason] ?? (reason ?? "no reason given").replaceAll("_", " ");

// Writing what is there already would cost the browser a layout all the same.
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, attribute, value) {
  if (element.getAttribute(attribute) !== value) element.setAttribute(attribute, value);
}

// An element with its class and text: text is never markup.
export function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

// The first element of a <template>, fresh.
export function stamp(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

// A duration in words as short as they get.
export function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

// The time of day where the reader is; nothing for what is no time.
export function clockTime(at) {
  const moment = new Date(at);
  return Number.isNaN(moment.getTime()) ? "" : moment.toLocaleTimeString([], { hour12: false });
}

// What a label rests on: "44 % video, 56 % audio".
export function shareWords(share) {
  return MODALITIES.filter((modality) => share[modality] >= 0.005)
    .map((modality) => `${percent(share[modality])} ${modality}`)
    .join(", ");
}

// One background instead of three boxes: a new score is a new paint, not a new layout.
export function meterOf({ score, share }) {
  let end = 0;
  const stops = MODALITIES.map((modality) => {
    const begin = end;
    end += score * share[modality] * 100;
    return `var(--${modality}) ${begin.toFixed(1)}% ${end.toFixed(1)}%`;
  });
  return `linear-gradient(90deg, ${stops.join(", ")}, transparent ${end.toFixed(1)}%)`;
}
