// Which label has which row of the timeline. A row stays where it is for as long as its label is in sight, unless there
// are more labels than rows.

// A label without a row takes the weakest one's only when it is this much stronger.
const LEAD = 0.25;
// Or, when it is at least this strong now, the row of a label that has been away for longer than this.
const STRONG = 0.5;
const AWAY_MS = 5000;

export class Rows {
  constructor(most) {
    this.most = most;
    this.slots = [];
    this.hidden = 0;
  }

  clear() {
    this.slots = [];
  }

  // items: what is in sight. Afterwards `slots` holds names, or null for a row that is free; `hidden`: names without one.
  update(items) {
    const seen = seenIn(items);
    this.slots = this.slots.slice(0, this.most).map((name) => (seen.has(name) ? name : null));
    while (this.slots.length && this.slots.at(-1) === null) this.slots.pop();
    const without = [...seen.keys()].filter((name) => !this.slots.includes(name));
    without.sort((one, other) => seen.get(other).best - seen.get(one).best);
    for (const name of without) this.#seat(name, seen, items.at(-1).endMs);
    this.hidden = seen.size - this.slots.filter(Boolean).length;
  }

  #seat(name, seen, nowMs) {
    const free = this.slots.indexOf(null);
    if (free >= 0) this.slots[free] = name;
    else if (this.slots.length < this.most) this.slots.push(name);
    else {
      const loser = this.#loser(seen.get(name), seen, nowMs);
      if (loser !== undefined) this.slots[this.slots.indexOf(loser)] = name;
    }
  }

  #loser(label, seen, nowMs) {
    const least = (figure) => this.slots.reduce((one, other) => (seen.get(other)[figure] < seen.get(one)[figure] ? other : one));
    const weakest = least("best");
    if (label.best >= seen.get(weakest).best + LEAD) return weakest;
    const longest = least("lastMs");
    const isHere = label.lastMs === nowMs && label.last >= STRONG;
    return isHere && seen.get(longest).lastMs < nowMs - AWAY_MS ? longest : undefined;
  }
}

// Of each label: its best score, its last one, and when that was.
function seenIn(items) {
  const seen = new Map();
  for (const { segment, endMs } of items)
    for (const { name, score } of segment.labels) {
      const known = seen.get(name);
      if (!known) seen.set(name, { best: score, last: score, lastMs: endMs });
      else Object.assign(known, { best: Math.max(known.best, score), last: score, lastMs: endMs });
    }
  return seen;
}
