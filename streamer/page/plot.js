// Latency against the bound: each answered segment as a bar of its stages, each shed one as a mark at the bound.

import { fit, tones } from "./canvas.js";
import { columnsOf } from "./paint.js";
import { mark, set } from "./words.js";

const STAGES = ["ingest", "queue", "compute", "publish"];
const FOOT = 4;

// The value below which the part `quantile` of the sorted values lies.
export function quantile(sorted, part) {
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}

// "p50 104 ms, p99 212 ms of 1000 ms; 2 of 240 shed", of what is in sight.
export function latencyWords(items) {
  if (!items.length) return "no segments";
  const answered = items.filter(({ segment }) => segment.status !== "shed");
  const shed = items.length - answered.length;
  const bound = items.at(-1).segment.bound_ms;
  const totals = answered.map(({ segment }) => segment.latency_ms.total).sort((one, other) => one - other);
  const ms = (part) => `${Math.round(quantile(totals, part))} ms`;
  const figures = totals.length ? `p50 ${ms(0.5)}, p99 ${ms(0.99)} of ${bound} ms` : `bound ${bound} ms`;
  return `${figures}; ${shed ? `${shed} of ${items.length} shed` : "none shed"}`;
}

export class Plot {
  constructor(root, axis) {
    this.axis = axis;
    this.figures = root.querySelector(".figures");
    this.place = root.querySelector(".plot");
    this.canvas = this.place.querySelector("canvas");
  }

  draw(items, cells, cursor) {
    const words = latencyWords(items);
    set(this.figures, words);
    mark(this.place, "aria-label", `Latency: ${words}`);
    const fitted = fit(this.canvas);
    if (!fitted) return;
    const { pen, width, height } = fitted;
    const bound = items.at(-1)?.segment.bound_ms ?? 1000;
    const top = bound * 1.15;
    const y = (ms) => height - FOOT - (Math.min(ms, top) / top) * (height - FOOT);
    const x = this.axis.scale(width);
    drawScale(pen, width, y, bound);
    const weigh = ({ segment }) => (segment.status === "shed" ? Infinity : segment.latency_ms.total);
    for (const { item, left, wide } of columnsOf(cells, x, weigh)) {
      if (item.segment.status === "shed") drawShed(pen, left + wide / 2, y(bound));
      else drawBar(pen, left, wide - (wide > 3 ? 1 : 0), y, item.segment.latency_ms);
    }
    drawBound(pen, width, y(bound), bound);
    if (!cursor) return;
    pen.fillStyle = tones.focus;
    pen.fillRect(Math.round(x(cursor.endMs)) - 1, 0, 2, height - FOOT);
  }
}

function drawBar(pen, left, wide, y, latency) {
  let from = 0;
  for (const stage of STAGES) {
    const to = from + latency[stage];
    pen.fillStyle = tones[`stage-${stage}`];
    pen.fillRect(left, y(to), wide, Math.max(y(from) - y(to), 0));
    from = to;
  }
}

function drawShed(pen, x, y) {
  pen.strokeStyle = tones.bad;
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (const way of [1, -1]) {
    pen.moveTo(x - 3, y - 3 * way);
    pen.lineTo(x + 3, y + 3 * way);
  }
  pen.stroke();
}

function drawScale(pen, width, y, bound) {
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = tones.line;
  for (const part of [0, 0.25, 0.5, 0.75]) pen.fillRect(0, Math.round(y(bound * part)), width, 1);
  pen.fillStyle = tones.faint;
  pen.fillText(`${Math.round(bound / 2)} ms`, 2, Math.round(y(bound * 0.5)) - 3);
}

function drawBound(pen, width, y, bound) {
  pen.strokeStyle = tones.soft;
  pen.lineWidth = 1;
  pen.setLineDash([5, 4]);
  pen.beginPath();
  pen.moveTo(0, Math.round(y) + 0.5);
  pen.lineTo(width, Math.round(y) + 0.5);
  pen.stroke();
  pen.setLineDash([]);
  pen.fillStyle = tones.soft;
  pen.fillText(`bound ${bound} ms`, 2, Math.round(y) - 4);
}
