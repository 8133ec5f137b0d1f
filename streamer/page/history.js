// Segments that were, asked of the store: page by page, never more than a view can show.

const A_PAGE = 1000;
const MOST = 2000;

// Of `name`, with a start in [sinceMs, untilMs), oldest first; untilMs may be null for "until now".
export async function segmentsBetween(context, name, sinceMs, untilMs, signal) {
  const found = [];
  let since = new Date(sinceMs).toISOString();
  while (since !== null && found.length < MOST) {
    const query = new URLSearchParams({ since, limit: A_PAGE });
    if (untilMs !== null) query.set("until", new Date(untilMs).toISOString());
    const page = await context.ask(`v1/segments/${encodeURIComponent(name)}?${query}`, { signal });
    found.push(...page.segments);
    since = page.next;
  }
  return found;
}

// When the moment `at` was: a time says so itself, a cursor by the segment it names; null where it names none.
export async function timeOf(context, name, at, signal) {
  if (!at.includes("@")) return Number.isNaN(Date.parse(at)) ? null : Date.parse(at);
  const query = new URLSearchParams({ since: at, limit: 1 });
  const { segments } = await context.ask(`v1/segments/${encodeURIComponent(name)}?${query}`, { signal });
  return segments.length ? Date.parse(segments[0].end) : null;
}
