// Where people are: the stream's zones and lines, and who was seen as boxes and skeletons, drawn as SVG.
//
// Behind them, where pictures may be shown, is the newest one, made so small before it is drawn that no face is left.

import { looksForPeople, peopleWords, personWords, sceneWords, words } from "./people.js";
import { mark, set } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
// The drawing's own units, near to pixels on the screen, so that letters and strokes are as large as they say.
const WIDEST = 400;
const HIGHEST = 420;
// Of the picture behind so many columns are left: a face that fills a quarter of the width has six of them.
const HAZE = 24;
const SURE = 0.3;
const LETTER = 7;
const CHINESE_LETTER = 12;
// Which of the 17 points of the body (COCO) are joined.
const BONES = [[5, 6], [5, 7], [7, 9], [6, 8], [8, 10], [5, 11], [6, 12], [11, 12], [11, 13], [13, 15], [12, 14], [14, 16], [0, 5], [0, 6]];
const ARROW = 14;

export class Scene {
  constructor(section) {
    this.section = section;
    const find = (selector) => section.querySelector(selector);
    [this.title, this.who, this.figure, this.haze, this.drawing] = ["h3", ".who", ".scene", "canvas", "svg"].map(find);
    this.section.lang = words.lang;
    set(this.title, words.title);
    this.places = shape("g", { class: "places" });
    this.persons = shape("g", { class: "persons" });
    this.drawing.append(this.places, this.persons);
    this.isNow = true;
  }

  // status: the stream's StreamStatus.
  takeStatus(status) {
    this.status = status;
    const [wide, high] = status.picture ?? [16, 9];
    this.width = Math.round(Math.min(WIDEST, (HIGHEST * wide) / high));
    this.height = Math.round((this.width * high) / wide);
    mark(this.drawing, "viewBox", `0 0 ${this.width} ${this.height}`);
    this.figure.style.setProperty("--aspect", `${wide} / ${high}`);
    this.figure.style.setProperty("--widest", `${Math.round(this.width * 1.5)}px`);
    this.figure.hidden = status.people === "count" && !size(status.zones) && !size(status.lines);
    this.haze.hidden = !status.preview;
    this.#drawPlaces(status.zones ?? {}, status.lines ?? {});
  }

  // segment: what is shown, or null; isNow: it is the newest, so that the picture behind is of its time.
  draw(segment, isNow) {
    const isShown = looksForPeople(this.status, segment) && segment !== null;
    this.section.hidden = !isShown;
    if (!isShown) return;
    this.figure.toggleAttribute("data-past", !isNow);
    const { people } = segment;
    const list = people?.list ?? [];
    set(this.who, peopleWords(people));
    const there = (zone) => list.filter(({ zones }) => zones?.includes(zone)).length;
    for (const element of this.places.querySelectorAll(".zone")) {
      const count = there(element.dataset.place);
      element.toggleAttribute("data-here", count > 0);
      set(element.querySelector("text"), count ? `${element.dataset.place} · ${count}` : element.dataset.place);
    }
    const zones = Object.keys(this.status.zones ?? {}).map((zone) => (there(zone) ? `${zone} (${there(zone)})` : zone));
    mark(this.drawing, "aria-label", sceneWords(people, zones, Object.keys(this.status.lines ?? {})));
    if (people !== this.people) this.persons.replaceChildren(...list.map((person) => this.#person(person)));
    this.people = people;
  }

  // The newest picture (an ImageBitmap of any shape), from who asked for it.
  takePicture(picture) {
    const width = HAZE;
    const height = Math.max(1, Math.round((HAZE * this.height) / this.width));
    if (this.haze.width !== width || this.haze.height !== height) Object.assign(this.haze, { width, height });
    const pen = this.haze.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(picture, 0, 0, width, height);
  }

  #at([x, y]) {
    return [x * this.width, y * this.height];
  }

  #drawPlaces(zones, lines) {
    const known = JSON.stringify([zones, lines, this.width, this.height]);
    if (known === this.known) return;
    this.known = known;
    this.people = undefined;
    this.places.replaceChildren(
      ...Object.entries(zones).map(([name, corners]) => this.#zone(name, corners.map((corner) => this.#at(corner)))),
      ...Object.entries(lines).map(([name, points]) => this.#line(name, points.map((point) => this.#at(point)))),
    );
  }

  #zone(name, corners) {
    const group = shape("g", { class: "zone", "data-place": name });
    const top = corners.reduce((one, other) => (other[1] < one[1] ? other : one));
    const middle = corners.reduce((sum, [x]) => sum + x, 0) / corners.length;
    group.append(shape("polygon", { points: corners.join(" ") }), this.#text(name, (top[0] + middle) / 2, top[1] + 15, "middle"));
    return group;
  }

  // An arrow over the middle of the longest part says which way is in: to the right of who goes along the line.
  #line(name, points) {
    const group = shape("g", { class: "line", "data-place": name });
    const parts = points.slice(1).map((to, index) => [points[index], to]);
    const length = ([from, to]) => Math.hypot(to[0] - from[0], to[1] - from[1]);
    const [from, to] = parts.reduce((one, other) => (length(other) > length(one) ? other : one));
    const [x, y] = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
    const angle = (Math.atan2(to[0] - from[0], from[1] - to[1]) * 180) / Math.PI;
    const arrow = shape("path", {
      class: "arrow",
      d: `M${-ARROW} 0H${ARROW}M${ARROW - 6} -5L${ARROW} 0L${ARROW - 6} 5`,
      transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) rotate(${angle.toFixed(1)})`,
    });
    group.append(shape("polyline", { points: points.join(" ") }), arrow, this.#text(name, points[0][0] + 6, points[0][1] - 6));
    return group;
  }

  #person(person) {
    const group = shape("g", { class: "person", "data-track": person.track });
    if (person.posture) group.dataset.posture = person.posture;
    const [left, top, right, bottom] = [...this.#at(person.box), ...this.#at(person.box.slice(2))];
    group.append(shape("rect", { x: left, y: top, width: right - left, height: bottom - top, rx: 4 }));
    const points = (person.points ?? []).map(([x, y, score]) => score >= SURE && this.#at([x, y]).map((part) => part.toFixed(1)).join(" "));
    const bones = BONES.filter(([from, to]) => points[from] && points[to]).map(([from, to]) => `M${points[from]}L${points[to]}`);
    const joints = points.filter(Boolean).map((point) => `M${point}h0`);
    for (const kind of ["halo", "bones"]) group.append(shape("path", { class: kind, d: bones.join("") }));
    group.append(shape("path", { class: "joints", d: joints.join("") }));
    group.append(this.#text(personWords(person), left + 2, top > 16 ? top - 4 : top + 13));
    return group;
  }

  // Within the picture, whatever it belongs to is not.
  #text(text, x, y, anchor = "start") {
    const width = [...text].reduce((sum, letter) => sum + (letter > "\u2e80" ? CHINESE_LETTER : LETTER), 0);
    const before = anchor === "middle" ? width / 2 : 0;
    const within = (value, from, to) => Math.max(from, Math.min(value, Math.max(from, to)));
    const element = shape("text", {
      x: within(x, 4 + before, this.width - 4 - width + before).toFixed(1),
      y: within(y, 13, this.height - 5).toFixed(1),
      "text-anchor": anchor,
    });
    element.textContent = text;
    return element;
  }
}

const size = (places) => Object.keys(places ?? {}).length;

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
