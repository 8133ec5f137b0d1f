// The moments of a window: a strip a modality over its time, pictures above, then sound and words, and the same as a
// table.

import { clockTime, made, percent } from "./words.js";

const NAMES = { video: "pictures", audio: "sound", text: "words" };
const ONE = { video: "picture", audio: "sound", text: "word" };
// Few models read words; of the others nothing is said.
const modalities = (why) => ["video", "audio", ...(why.text?.length ? ["text"] : [])];

export class Moments {
  constructor(element) {
    this.element = element;
  }

  clear() {
    this.element.replaceChildren();
  }

  draw(why) {
    const window = { from: Date.parse(why.start), to: Date.parse(why.end) };
    const open = this.element.querySelector("details")?.open ?? false;
    const strips = modalities(why).map((modality) => strip(modality, why[modality], window, why.heat?.at));
    this.element.replaceChildren(made("h3", "", "Which moments count"), ...strips, scale(window), table(why, window));
    this.element.querySelector("details").open = open;
  }
}

function strip(modality, moments, window, marked) {
  const row = made("div", "strip");
  row.dataset.modality = modality;
  const track = made("div", "pieces");
  // The table says the same in words.
  track.setAttribute("aria-hidden", "true");
  row.append(made("span", "name", NAMES[modality]), track);
  const most = Math.max(0, ...moments.map(({ mass }) => mass));
  if (!most) {
    track.append(made("span", "nothing", moments.length ? "no say in this label" : `no ${NAMES[modality]} in this window`));
    return row;
  }
  const span = window.to - window.from;
  const edges = cells(moments, window);
  moments.forEach((moment, index) => {
    const cell = made("span", "piece");
    const bar = made("i");
    const [from, to] = edges[index];
    cell.style.left = `${((from - window.from) / span) * 100}%`;
    cell.style.width = `${((to - from) / span) * 100}%`;
    bar.style.height = `${(moment.mass / most) * 100}%`;
    cell.title = `${clockTime(moment.start)}: ${percent(moment.mass)} of what counts, ${moment.score.toFixed(2)} alone`;
    cell.toggleAttribute("data-shown", modality === "video" && within(marked, moment));
    cell.append(bar);
    track.append(cell);
  });
  return row;
}

const within = (at, { start, end }) => Boolean(at) && Date.parse(at) >= Date.parse(start) && Date.parse(at) < Date.parse(end);

// Pieces of sound overlap; side by side, each stands for what is nearer to its middle than to another's.
function cells(moments, { from, to }) {
  const middles = moments.map(({ start, end }) => (Date.parse(start) + Date.parse(end)) / 2);
  const clipped = (at) => Math.min(to, Math.max(from, at));
  return moments.map(({ start, end }, index) => [
    clipped(Math.max(Date.parse(start), index ? (middles[index - 1] + middles[index]) / 2 : -Infinity)),
    clipped(Math.min(Date.parse(end), index < middles.length - 1 ? (middles[index] + middles[index + 1]) / 2 : Infinity)),
  ]);
}

function scale({ from, to }) {
  const row = made("div", "scale");
  row.setAttribute("aria-hidden", "true");
  row.append(made("span", "", clockTime(from)), made("span", "", `${((to - from) / 1000).toFixed(1)} s`), made("span", "", clockTime(to)));
  return row;
}

function table(why, { from }) {
  const details = made("details");
  const grid = made("table");
  const head = made("tr");
  for (const title of ["moment", "at", "of what counts", "score alone"])
    head.append(Object.assign(made("th", "", title), { scope: "col" }));
  grid.append(made("thead"), made("tbody"));
  grid.tHead.append(head);
  const seconds = (at) => ((Date.parse(at) - from) / 1000).toFixed(2);
  for (const modality of modalities(why))
    why[modality].forEach((moment, index) => {
      const row = made("tr");
      row.append(Object.assign(made("th", "", `${ONE[modality]} ${index + 1}`), { scope: "row" }));
      const cells = [`${seconds(moment.start)} to ${seconds(moment.end)} s`, percent(moment.mass), moment.score.toFixed(2)];
      row.append(...cells.map((text) => made("td", "", text)));
      grid.tBodies[0].append(row);
    });
  details.append(made("summary", "", "As a table"), grid);
  return details;
}
