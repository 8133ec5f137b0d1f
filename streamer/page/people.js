// Who is there, in words: Chinese for who reads that, English for everybody else.

const EN = {
  lang: "en",
  title: "Where",
  unknown: "People: not known for this moment",
  count: (count) => (count === 0 ? "nobody" : count === 1 ? "1 person" : `${count} people`),
  posture: { standing: "standing", sitting: "sitting", lying: "lying" },
  number: (track, how) => [`no. ${track}`, how].filter(Boolean).join(" "),
  how: (posture, zones) => [posture, zones.length && `in ${zones.join(" and ")}`].filter(Boolean).join(" "),
  some: (count, how) => `${count} ${how}`,
  who: (count, parts) => (parts.length ? `${count}: ${parts.join(", ")}` : count),
  scene: (who, zones, lines) => [`The scene. ${who}`, zones.length && `Zones: ${zones.join(", ")}`, lines.length && `Lines: ${lines.join(", ")}`].filter(Boolean).join(". "),
};
const ZH = {
  lang: "zh",
  title: "位置",
  unknown: "此刻人数不详",
  count: (count) => (count === 0 ? "无人" : `${count} 人`),
  posture: { standing: "站立", sitting: "坐着", lying: "躺着" },
  number: (track, how) => [`${track} 号`, how].filter(Boolean).join(" "),
  how: (posture, zones) => [zones.length && `在 ${zones.join("、")}`, posture].filter(Boolean).join(" "),
  some: (count, how) => `${count} 人${how}`,
  who: (count, parts) => (parts.length ? `${count}：${parts.join("，")}` : count),
  scene: (who, zones, lines) => [`画面：${who}`, zones.length && `区域：${zones.join("、")}`, lines.length && `界线：${lines.join("、")}`].filter(Boolean).join("。"),
};

// The words for a reader of `languages` (BCP 47, the best first).
export function wordsFor(languages) {
  const known = languages.map((language) => language.toLowerCase().split("-")[0]).find((language) => ["en", "zh"].includes(language));
  return known === "zh" ? ZH : EN;
}

export const words = wordsFor(navigator.languages);

// Whether people are looked for in the stream; a service that doesn't say shows it by what its segments hold.
export const looksForPeople = (status, segment) => (status.people ? status.people !== "off" : Boolean(segment?.people));

// A label that comes from who was seen, and not from the model that names things.
const LABELS = ["Person", "Standing", "Sitting", "Lying", "Fall"];
export const isOfPeople = (label) => LABELS.includes(label) || label.includes("@");

// "2 people: 1 standing in yard, 1 sitting"; `people` as in a segment, null where nobody could look.
export function peopleWords(people, say = words) {
  if (!people) return say.unknown;
  const alike = new Map();
  for (const { posture, zones = [] } of people.list ?? []) {
    const how = say.how(say.posture[posture], zones);
    if (how) alike.set(how, (alike.get(how) ?? 0) + 1);
  }
  const parts = [...alike].sort((one, other) => other[1] - one[1]);
  const alone = people.count === 1;
  return say.who(say.count(people.count), parts.map(([how, count]) => (alone ? how : say.some(count, how))));
}

// "no. 3 standing"
export const personWords = ({ track, posture }, say = words) => say.number(track, say.posture[posture]);

export const sceneWords = (people, zones, lines, say = words) => say.scene(peopleWords(people, say), zones, lines);
