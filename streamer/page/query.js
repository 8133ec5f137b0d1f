// What a person types, such as "Dog, last night" or "siren on door > 0.7 today", as a query. Pure: the time is an argument,
// and days begin and end where the visitor is.

export const DEFAULT_SCORE = 0.5;
const DAY_MS = 86_400_000;
const UNITS = [
  [/^s/, 1000],
  [/^min|^m$/, 60_000],
  [/^h/, 3_600_000],
  [/^d/, DAY_MS],
  [/^w/, 7 * DAY_MS],
];
const UNIT = "(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)";
const CLOCK = "(\\d{1,2})(?:[:.](\\d{2}))?\\s*(am|pm|h|o'clock)?";
const PARTS = { morning: [5, 12], noon: [11, 13], afternoon: [12, 18], evening: [18, 23], night: [21, 30], midnight: [23, 25] };
const PART = `(${Object.keys(PARTS).join("|")})`;
const WEEKDAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH = `(${MONTHS.join("|")})[a-z]*`;
// Words around a name that say nothing about what is looked for.
const SMALL = new Set(
  "a all an and any anything are did find for heard is me of score seen show the there was were when with".split(" "),
);

// { label, others, stream, since, until, min, unknown }
//   label: a known name, or null for any; others: names that were nearly meant as well
//   stream: "" for all, a stream's name, a pattern with *, or "group:NAME"
//   since, until: milliseconds since 1970; timed: whether the text said when
//   unknown: the words that were not understood, "" where all were
export function parse(text, { labels, streams, now }) {
  let rest = ` ${text.trim().replace(/[,;?!]+/g, " ").replace(/[–—]/g, "-").replace(/\s+/g, " ")} `;
  const take = (pattern, use) => {
    const match = rest.match(pattern);
    if (!match) return null;
    const used = use(match);
    if (used === null) return null;
    rest = `${rest.slice(0, match.index)} ${rest.slice(match.index + match[0].length)}`.replace(/\s+/g, " ");
    return used;
  };
  const least = /\s(?:(?:>=?|over|above|at least|min(?:imum)?)\s*(0?\.\d+|1(?:\.0+)?|\d{1,3}\s*%)|(\d{1,3}\s*%))(?=\s)/i;
  const min = take(least, ([, told, bare]) => {
    const number = told ?? bare;
    const value = number.endsWith("%") ? parseFloat(number) / 100 : parseFloat(number);
    return value <= 1 ? value : null;
  });
  const time = takeTime(take, now);
  const stream = takeStream(take, streams, labels);
  const found = takeLabel(rest, labels, streams, stream);
  return { ...found, ...(time ?? { since: now - DAY_MS, until: now }), timed: time !== null, min: min ?? DEFAULT_SCORE };
}

// -- when ---------------------------------------------------------------------------------------------------------------

function takeTime(take, now) {
  const ago = take(new RegExp(`\\s(\\d+(?:\\.\\d+)?|an?)\\s*${UNIT}\\s+ago(?=\\s)`, "i"), ([, count, unit]) => {
    const at = now - amount(count) * unitMs(unit);
    return { since: at - unitMs(unit) / 2, until: Math.min(at + unitMs(unit) / 2, now) };
  });
  if (ago) return ago;
  const span = new RegExp(`\\s(?:in |for |within )?(?:the )?(?:last|past)\\s+(?:(\\d+(?:\\.\\d+)?)\\s*)?${UNIT}(?=\\s)`, "i");
  const last = take(span, ([, count, unit]) => ({ since: now - amount(count ?? "1") * unitMs(unit), until: now }));
  if (last) return last;
  const day = takeDay(take, now);
  const hours = takeHours(take);
  if (!day && !hours) return null;
  return clip(range(day, hours, now), now);
}

const amount = (text) => (/^an?$/i.test(text) ? 1 : parseFloat(text));
const unitMs = (unit) => UNITS.find(([pattern]) => pattern.test(unit.toLowerCase()))[1];

// A day and hours of it; hours from 24 on are the next day's.
function takeDay(take, now) {
  const today = new Date(now).getDay();
  // Whoever asks at three in the morning means the night that is not over.
  const lastNight = () => ({ back: 1, part: PARTS.night, night: true });
  return (
    take(/\s(?:last night|yesterday night|overnight)(?=\s)/i, lastNight) ??
    take(/\stonight(?=\s)/i, () => (new Date(now).getHours() < 6 ? lastNight() : { back: 0, part: [18, 30], night: true })) ??
    take(new RegExp(`\\s(?:this|today)\\s+${PART}(?=\\s)`, "i"), ([, part]) => ({ back: 0, part: PARTS[part.toLowerCase()] })) ??
    take(new RegExp(`\\s(?:the )?(today|yesterday)(?:\\s+${PART})?(?=\\s)`, "i"), ([, word, part]) => ({
      back: word.toLowerCase() === "today" ? 0 : 1,
      part: PARTS[part?.toLowerCase()],
    })) ??
    take(new RegExp(`\\s(?:on |last )*(${WEEKDAYS.join("|")})(?:\\s+${PART})?(?=\\s)`, "i"), ([all, word, part]) => {
      const back = (today - WEEKDAYS.indexOf(word.toLowerCase()) + 7) % 7;
      return { back: back === 0 && /last/i.test(all) ? 7 : back, part: PARTS[part?.toLowerCase()] };
    }) ??
    take(/\s(?:on )?(\d{4})-(\d{2})-(\d{2})(?=\s)/, ([, year, month, date]) => ({ date: [+year, month - 1, +date] })) ??
    take(new RegExp(`\\s(?:on )?(\\d{1,2})\\.?\\s+${MONTH}(?=\\s)`, "i"), ([, date, month]) => dated(date, month, now)) ??
    take(new RegExp(`\\s(?:on )?${MONTH}\\s+(\\d{1,2})(?=\\s)`, "i"), ([, month, date]) => dated(date, month, now)) ??
    take(new RegExp(`\\s(?:in )?(?:the )?${PART}(?=\\s)`, "i"), ([, part]) => ({ back: 0, part: PARTS[part.toLowerCase()] }))
  );
}

function dated(date, month, now) {
  const index = MONTHS.indexOf(month.toLowerCase().slice(0, 3));
  const year = new Date(now).getFullYear();
  return { date: [new Date(year, index, +date).getTime() > now ? year - 1 : year, index, +date] };
}

// Minutes of the day: { from, to }, { from } or { to }. A bare number is none, "22" may be anything.
function takeHours(take) {
  const between = new RegExp(`\\s(?:from |between )?${CLOCK}\\s*(?:-|to|until|till|and)\\s*${CLOCK}(?=\\s)`, "i");
  const both = take(between, ([, hour, minute, half, hour2, minute2, half2]) => {
    if (!(minute || half || minute2 || half2)) return null;
    return checked({ from: minutes(hour, minute, half ?? (minute ? null : half2)), to: minutes(hour2, minute2, half2) });
  });
  if (both) return both;
  const one = (words, use) =>
    take(new RegExp(`\\s(?:${words})\\s+${CLOCK}(?=\\s)`, "i"), ([, hour, minute, half]) =>
      minute || half ? checked(use(minutes(hour, minute, half))) : null,
    );
  return (
    one("since|after|from", (from) => ({ from })) ??
    one("before|until|till", (to) => ({ to })) ??
    one("at|around|about", (at) => ({ from: at - 15, to: at + 15 }))
  );
}

function minutes(hour, minute, half) {
  const word = half?.toLowerCase();
  const base = word === "pm" ? (+hour % 12) + 12 : word === "am" ? +hour % 12 : +hour;
  return base * 60 + Number(minute ?? 0);
}

const checked = (hours) => (Object.values(hours).every((value) => value > -60 && value <= 24 * 60 + 15) ? hours : null);

function range(day, hours, now) {
  const today = new Date(now);
  const at = (back, minute) => new Date(today.getFullYear(), today.getMonth(), today.getDate() - back, 0, minute).getTime();
  const on = day?.date ? (minute) => new Date(...day.date, 0, minute).getTime() : (minute) => at(day?.back ?? 0, minute);
  if (!hours) {
    const [from, to] = day.part ?? [0, 24];
    return { since: on(from * 60), until: on(to * 60) };
  }
  let { from, to } = hours;
  if (day?.night) {
    // A night belongs to the day it begins on.
    [from, to] = [from, to].map((value) => (value !== undefined && value < 12 * 60 ? value + 24 * 60 : value));
  }
  const [first, last] = day?.part ?? [0, 24];
  from ??= first * 60;
  to ??= day ? last * 60 : null;
  if (to !== null && to <= from) to += 24 * 60;
  const until = to === null ? now : on(to);
  // Without a day, hours that have not begun today were meant of yesterday.
  if (!day && on(from) > now) return { since: at(1, from), until: to === null ? now : at(1, to) };
  return { since: on(from), until };
}

// What has not been yet can't be found.
function clip({ since, until }, now) {
  return { since, until: since < now ? Math.min(until, now) : until };
}

// -- where --------------------------------------------------------------------------------------------------------------

function takeStream(take, streams, labels) {
  const groups = [...new Set(streams.map(({ group }) => group).filter(Boolean))];
  return (
    take(/\s(?:on|at|in|by|from|stream|camera|group)\s+(?:the\s+)?(?:stream |camera |group )?([\w*-]+)(?=\s)/i, ([, word]) => {
      const name = word.toLowerCase();
      if (name.includes("*") || streams.some((one) => one.name === name)) return name;
      const group = groups.find((one) => one.toLowerCase() === name);
      if (group) return `group:${group}`;
      // "dogs in snow" is about a label, not about a camera that nobody has.
      if (labels.some((label) => plain(label) === plain(name))) return null;
      const near = nearest(name, [...streams.map((one) => one.name), ...groups])[0];
      if (!near) return null;
      return streams.some((one) => one.name === near) ? near : `group:${near}`;
    }) ?? ""
  );
}

// The streams of `streams` that `stream` (as in `parse`) names; a name that nobody has now may still have a past.
export function chosen(stream, streams) {
  if (!stream) return streams.map(({ name }) => name);
  if (stream.startsWith("group:")) return streams.filter(({ group }) => group === stream.slice(6)).map(({ name }) => name);
  if (!stream.includes("*")) return [stream];
  const pattern = new RegExp(`^${stream.split("*").map((part) => part.replace(/[^\w-]/g, "\\$&")).join(".*")}$`);
  return streams.map(({ name }) => name).filter((name) => pattern.test(name));
}

// -- what ---------------------------------------------------------------------------------------------------------------

function takeLabel(rest, labels, streams, stream) {
  const typed = rest.trim();
  const whole = exact(typed, labels);
  if (whole) return { label: whole, others: [], stream, unknown: "" };
  let words = typed.split(" ").filter((word) => word && !SMALL.has(word.toLowerCase()));
  if (!exact(words.join(" "), labels) && !stream) {
    // A stream's or a group's name needs no "on" where a label is left beside it.
    const without = (word) => words.filter((other) => other !== word).join(" ");
    const place = words.findIndex(
      (word) => named(word, streams) && (words.length === 1 || nearest(without(word), labels).length > 0),
    );
    if (place >= 0) stream = named(words.splice(place, 1)[0], streams);
  }
  if (!words.length) return { label: null, others: [], stream, unknown: "" };
  let found = nearest(words.join(" "), labels);
  let unknown = [];
  if (!found.length) {
    // Of words that together are no name, each may be one; what is left is told.
    const each = words.map((word) => nearest(word, labels)[0]);
    found = [...new Set(each.filter(Boolean))];
    unknown = words.filter((_, index) => !each[index] || each[index] !== found[0]);
  }
  return { label: found[0] ?? null, others: found.slice(1, 5), stream, unknown: unknown.join(" ") };
}

function named(word, streams) {
  const name = word.toLowerCase();
  if (streams.some((one) => one.name === name)) return name;
  const group = streams.find((one) => one.group?.toLowerCase() === name)?.group;
  return group ? `group:${group}` : "";
}

const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
const exact = (text, names) => (text ? (names.find((name) => plain(name) === plain(text)) ?? null) : null);

// The names that `text` may mean, the likeliest first; the best alone where it is meant beyond doubt.
export function nearest(text, names) {
  const wanted = plain(text);
  if (!wanted) return [];
  const ranked = names
    .map((name) => ({ name, rank: rank(wanted, text.toLowerCase(), name) }))
    .filter((one) => one.rank < 9)
    .sort((one, other) => one.rank - other.rank || one.name.length - other.name.length || (one.name < other.name ? -1 : 1));
  return (ranked[0]?.rank <= 1 ? ranked.slice(0, 1) : ranked).map((one) => one.name);
}

function rank(wanted, text, name) {
  const there = plain(name);
  if (there === wanted) return 0;
  if (singular(there) === singular(wanted)) return 1;
  const words = name.toLowerCase().split(/[^\p{L}\p{N}]+/u);
  if (words.some((word) => singular(word) === singular(text))) return 2;
  if (wanted.length >= 3 && there.startsWith(wanted)) return 3;
  const slips = wanted.length < 3 ? 0 : wanted.length < 6 ? 1 : 2;
  const apart = distance(wanted, there, slips);
  if (apart <= slips) return 3 + apart;
  return wanted.length >= 4 && there.includes(wanted) ? 7 : 9;
}

const singular = (word) => word.replace(/(?<=s|x|ch|sh)es$|(?<!s)s$/, "");

// Letters to insert, drop, change, or swap with their neighbour (optimal string alignment), or more than `most`.
function distance(one, other, most) {
  if (Math.abs(one.length - other.length) > most) return most + 1;
  let [before, last] = [[], Array.from({ length: other.length + 1 }, (_, index) => index)];
  for (let row = 1; row <= one.length; row++) {
    const line = [row];
    for (let at = 1; at <= other.length; at++) {
      const same = one[row - 1] === other[at - 1];
      line[at] = Math.min(last[at] + 1, line[at - 1] + 1, last[at - 1] + (same ? 0 : 1));
      if (row > 1 && at > 1 && one[row - 1] === other[at - 2] && one[row - 2] === other[at - 1])
        line[at] = Math.min(line[at], before[at - 2] + 1);
    }
    [before, last] = [last, line];
  }
  return last[other.length];
}
