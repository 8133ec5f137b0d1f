// Paints the timeline: a row a label, how high by its score, in what colours by what it rests on; above them how each
// segment was answered, below them what of each window was there.

import { hatch, tones } from "./canvas.js";
import { MODALITIES, reasonWords, stepWords } from "./words.js";

export const STATUS_HEIGHT = 18;
export const LANE_HEIGHT = 13;
export const SPEECH_HEIGHT = 22;
export const AXIS_HEIGHT = 22;
const HOP_MS = 500;
// Ends of segments further apart than this have nothing between them.
const HOLE_MS = 1300;
// What arithmetic may lack of a whole pixel.
const TINY = 1e-6;
const FONT = "11px system-ui, sans-serif";

// What each segment stands for on the timeline: from the end of the one before to its own. `isFresh`: an epoch begins;
// `missing`: segments of the same epoch that this page has not got; `holeMs`: where nothing was, before it.
export function cellsOf(items) {
  let last = null;
  const cells = items.map((item) => {
    const isFresh = last !== null && last.segment.epoch !== item.segment.epoch;
    const missing = last !== null && !isFresh ? item.segment.seq - last.segment.seq - 1 : 0;
    const apart = last === null ? HOP_MS : item.endMs - last.endMs;
    const whole = !isFresh && !missing && apart > 0 && apart <= HOLE_MS;
    const fromMs = item.endMs - (whole ? apart : Math.min(HOP_MS, apart > 0 ? apart : HOP_MS));
    const cell = { item, fromMs, toMs: item.endMs, isFresh, missing, holeMs: whole || last === null ? null : last.endMs };
    last = item;
    return cell;
  });
  return withoutOverlaps(cells);
}

// Where a camera's clock was set back, what came later stands in the place of what came before.
function withoutOverlaps(cells) {
  let until = Infinity;
  const shown = cells.toReversed().filter(({ fromMs, toMs }) => {
    if (toMs > until) return false;
    until = fromMs;
    return true;
  });
  return shown.reverse();
}

// Cells as columns of pixels that don't overlap; of the cells that share one, the heaviest stands for all.
export function columnsOf(cells, x, weigh) {
  const columns = [];
  for (const cell of cells) {
    const last = columns.at(-1);
    const from = Math.floor(x(cell.fromMs) + TINY);
    const left = last ? Math.max(from, last.left + last.wide) : from;
    const wide = Math.max(Math.floor(x(cell.toMs) + TINY), from + 1) - left;
    if (wide > 0) columns.push({ item: cell.item, left, wide });
    else if (weigh(cell.item) > weigh(last.item)) last.item = cell.item;
  }
  return columns;
}

// geometry: { width, height, rows, rowHeight, bandTop, slots, lanes }; marks: { cursor: the item under it or null, words:
// what stands for time after the last segment, or null, spoken: utterances in sight }
export function paint(pen, geometry, axis, cells, marks) {
  const x = axis.scale(geometry.width);
  const foot = STATUS_HEIGHT + geometry.rows * geometry.rowHeight;
  paintGround(pen, geometry, axis, x, foot);
  paintHoles(pen, cells, x, foot, geometry.width, marks);
  for (const [index, name] of geometry.slots.entries()) if (name) paintRow(pen, geometry, index, name, cells, x);
  paintStatus(pen, cells, x, foot);
  if (marks.spoken.length) paintSpeech(pen, marks.spoken, x, foot + 3, geometry.width);
  const lanesTop = foot + 4 + (marks.spoken.length ? SPEECH_HEIGHT : 0);
  geometry.lanes.forEach((modality, index) => paintLane(pen, cells, x, lanesTop + index * LANE_HEIGHT, modality));
  paintEpochs(pen, cells.filter(({ isFresh }) => isFresh).map(({ fromMs }) => x(fromMs)), geometry.height - AXIS_HEIGHT, geometry.width);
  if (marks.cursor) paintCursor(pen, x(marks.cursor.endMs), geometry.height - AXIS_HEIGHT);
}

function paintGround(pen, { width, height, rowHeight, rows }, axis, x, foot) {
  pen.font = FONT;
  pen.textBaseline = "alphabetic";
  pen.strokeStyle = tones.line;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let row = 1; row <= rows; row++) {
    const y = STATUS_HEIGHT + row * rowHeight - 0.5;
    pen.moveTo(0, y);
    pen.lineTo(width, y);
  }
  pen.stroke();
  pen.fillStyle = tones.faint;
  for (const at of axis.ticks(width)) {
    const place = Math.round(x(at));
    pen.globalAlpha = 0.28;
    pen.fillRect(place, STATUS_HEIGHT, 1, height - AXIS_HEIGHT - STATUS_HEIGHT + 4);
    pen.globalAlpha = 1;
    const text = tickWords(at, axis.spanMs);
    const half = pen.measureText(text).width / 2;
    pen.fillText(text, Math.min(Math.max(place - half, 0), width - 2 * half), height - 6);
  }
}

function tickWords(at, spanMs) {
  const long = { hour: "2-digit", minute: "2-digit", hour12: false };
  return new Date(at).toLocaleTimeString([], spanMs > 300_000 ? long : { ...long, second: "2-digit" });
}

function paintRow(pen, { rowHeight, bandTop }, index, name, cells, x) {
  const base = STATUS_HEIGHT + (index + 1) * rowHeight - 1;
  const tall = rowHeight - bandTop - 3;
  const labelOf = ({ segment }) => segment.labels.find((one) => one.name === name);
  for (const { item, left, wide } of columnsOf(cells, x, (one) => labelOf(one)?.score ?? 0)) {
    const label = labelOf(item);
    if (!label) continue;
    const high = Math.max(2, label.score * tall);
    pen.globalAlpha = (0.3 + 0.7 * label.score) * (item.segment.status === "degraded" ? 0.75 : 1);
    let y = base;
    for (const modality of MODALITIES) {
      const part = high * label.share[modality];
      if (part < 0.25) continue;
      pen.fillStyle = tones[modality];
      pen.fillRect(left, y - part, wide, part);
      y -= part;
    }
  }
  pen.globalAlpha = 1;
}

// Neighbours that were answered in the same way are one box with one word.
function runsOf(cells) {
  const runs = [];
  for (const cell of cells) {
    const { status, reason, degraded } = cell.item.segment;
    const words = { ok: "", shed: `shed: ${reasonWords(reason)}`, degraded: `degraded: ${degraded.map(stepWords).join(", ")}` }[status];
    const last = runs.at(-1);
    if (last && last.status === status && last.words === words && cell.fromMs - last.toMs < HOP_MS / 2 && !cell.isFresh) last.toMs = cell.toMs;
    else runs.push({ status, words, fromMs: cell.fromMs, toMs: cell.toMs });
  }
  return runs;
}

function paintStatus(pen, cells, x, foot) {
  for (const { status, words, fromMs, toMs } of runsOf(cells)) {
    const left = Math.round(x(fromMs));
    const wide = Math.max(1, Math.round(x(toMs)) - left);
    const tone = { ok: tones.good, degraded: tones.warn, shed: tones.bad }[status];
    pen.fillStyle = tone;
    pen.globalAlpha = status === "ok" ? 0.45 : 1;
    pen.fillRect(left, STATUS_HEIGHT - 4, wide, status === "ok" ? 2 : 3);
    if (status === "shed") {
      pen.globalAlpha = 0.07;
      pen.fillRect(left, STATUS_HEIGHT, wide, foot - STATUS_HEIGHT);
      pen.globalAlpha = 0.4;
      hatch(pen, left, STATUS_HEIGHT, wide, foot - STATUS_HEIGHT, tone);
    }
    pen.globalAlpha = 1;
    writeWithin(pen, words, left, wide, tone);
  }
}

function writeWithin(pen, words, left, wide, tone) {
  if (!words) return;
  const short = words.split(":")[0];
  const text = [words, short].find((one) => pen.measureText(one).width <= wide);
  if (!text) return;
  pen.fillStyle = tone;
  pen.fillText(text, Math.max(left, 0), STATUS_HEIGHT - 7);
}

// Words where they were said; they may run on past their end, up to the next ones.
function paintSpeech(pen, spoken, x, y, width) {
  const tall = SPEECH_HEIGHT - 4;
  spoken.forEach(({ startMs, endMs, text, isFinal }, index) => {
    const left = x(startMs);
    const room = (index + 1 < spoken.length ? x(spoken[index + 1].startMs) : width) - Math.max(left, 0) - 3;
    pen.fillStyle = tones.text;
    pen.globalAlpha = isFinal ? 0.25 : 0.12;
    pen.fillRect(left, y, Math.max(2, x(endMs) - left), tall);
    pen.globalAlpha = 1;
    pen.fillRect(left, y, 2, tall);
    pen.fillStyle = isFinal ? tones.ink : tones.soft;
    writeCut(pen, isFinal ? text : `${text} …`, Math.max(left, 0) + 5, y + tall - 5, room - 5);
  });
}

function writeCut(pen, text, x, y, room) {
  if (room < 12) return;
  pen.save();
  pen.beginPath();
  pen.rect(x, y - 14, room, 20);
  pen.clip();
  pen.fillText(text, x, y);
  pen.restore();
}

function paintLane(pen, cells, x, y, modality) {
  const tall = LANE_HEIGHT - 5;
  pen.fillStyle = tones[modality];
  for (const { item, left, wide } of columnsOf(cells, x, ({ segment }) => -segment.coverage[modality])) {
    const there = item.segment.coverage[modality];
    pen.globalAlpha = there < 0.995 ? 0.75 : 0.35;
    pen.fillRect(left, y + tall * (1 - there), wide, tall * there);
  }
  pen.globalAlpha = 1;
}

// Between segments there may be time in which there were none, or some that this page has not got.
function paintHoles(pen, cells, x, foot, width, { words }) {
  for (const { fromMs, holeMs, missing } of cells)
    if (holeMs !== null && fromMs - holeMs > HOP_MS / 2) paintHole(pen, x(holeMs), x(fromMs), foot, missing ? `${missing} not received` : "no segments");
  const last = cells.at(-1);
  if (last && words) paintHole(pen, x(last.toMs), width, foot, words);
}

function paintHole(pen, from, to, foot, words) {
  const left = Math.max(0, Math.round(from));
  const wide = Math.round(to) - left;
  if (wide < 2) return;
  pen.globalAlpha = 0.5;
  hatch(pen, left, STATUS_HEIGHT, wide, foot - STATUS_HEIGHT, tones.line, 10);
  pen.globalAlpha = 1;
  if (pen.measureText(words).width > wide - 8) return;
  pen.fillStyle = tones.soft;
  pen.fillText(words, left + 4, (STATUS_HEIGHT + foot) / 2);
}

// A line through all rows where an epoch begins, and a word beside it where the next line leaves room for it.
function paintEpochs(pen, places, foot, width) {
  const text = "new epoch";
  const wide = pen.measureText(text).width + 8;
  pen.strokeStyle = pen.fillStyle = tones.ink;
  pen.lineWidth = 1;
  pen.setLineDash([4, 3]);
  places.forEach((place, index) => {
    pen.beginPath();
    pen.moveTo(Math.round(place) + 0.5, 0);
    pen.lineTo(Math.round(place) + 0.5, foot);
    pen.stroke();
    const next = index + 1 < places.length ? places[index + 1] : width;
    const before = index > 0 ? places[index - 1] + wide : 0;
    if (place + wide < next) pen.fillText(text, place + 4, STATUS_HEIGHT - 7);
    else if (index + 1 === places.length && place - wide > before) pen.fillText(text, place - wide + 4, STATUS_HEIGHT - 7);
  });
  pen.setLineDash([]);
}

function paintCursor(pen, place, foot) {
  pen.fillStyle = tones.focus;
  pen.fillRect(Math.round(place) - 1, STATUS_HEIGHT - 4, 2, foot - STATUS_HEIGHT + 4);
}
