// The latencies of a stream's last segments against its bound, drawn on a canvas.

import { fit, tones } from "./canvas.js";

export const REMEMBERED = 60;

// points: [{ ms, status }], the newest last. The top of the picture is a little above the bound; nothing above it exists.
export function draw(canvas, points, boundMs) {
  const fitted = fit(canvas);
  if (!fitted) return;
  const { pen, width, height } = fitted;
  const top = 3;
  const foot = height - 2;
  const y = (ms) => foot - (Math.min(ms, boundMs * 1.1) / (boundMs * 1.1)) * (foot - top);
  const x = (index) => width - 2 - (points.length - 1 - index) * ((width - 4) / (REMEMBERED - 1));

  pen.lineWidth = 1;
  pen.strokeStyle = tones.faint;
  pen.setLineDash([2, 3]);
  pen.beginPath();
  pen.moveTo(0, y(boundMs));
  pen.lineTo(width, y(boundMs));
  pen.stroke();
  pen.setLineDash([]);

  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  pen.strokeStyle = tones.soft;
  pen.beginPath();
  let drawing = false;
  points.forEach((point, index) => {
    // A segment without an answer has no place on the line of answers.
    if (point.status === "shed") return void (drawing = false);
    pen[drawing ? "lineTo" : "moveTo"](x(index), y(point.ms));
    drawing = true;
  });
  pen.stroke();
  points.forEach((point, index) => {
    if (point.status === "ok") return;
    pen.fillStyle = point.status === "shed" ? tones.bad : tones.warn;
    pen.fillRect(x(index) - 1, foot - 5, 2, 6);
  });
}
