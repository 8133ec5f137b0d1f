// Which view is shown: routes behind the `#`, so that every moment has an address and the server has one page.
//
// register("/past", { enter(element, params), leave(), update?(params), title?(params), element? })
//   `enter` gets an empty element inside <main> and `params` = { rest, query }: what follows the prefix in the path
//   (decoded), and a URLSearchParams. `update` hears of other params for a view that is shown already; without it the view
//   is left and entered. After `leave` the element is emptied, unless the view brought its own (`element`).
// go("#/past?label=Dog") shows another view; go(hash, { replace: true }) without a new entry in the history.

const views = [];
let shown = null;
let where = null;

export function register(prefix, view) {
  const element = view.element ?? document.createElement("section");
  element.classList.add("view");
  element.hidden = true;
  if (!element.isConnected) document.getElementById("view").append(element);
  views.push({ prefix, view, element });
  views.sort((one, other) => other.prefix.length - one.prefix.length);
}

export function go(hash, { replace = false } = {}) {
  const target = hash.startsWith("#") ? hash : `#${hash}`;
  if (!replace) return void (location.hash = target);
  history.replaceState(null, "", target);
  show();
}

export function start() {
  addEventListener("hashchange", show);
  show();
}

function parse(hash) {
  const [path, query] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const found = views.find(({ prefix }) => (prefix === "/" ? path === "/" : path === prefix || path.startsWith(prefix + "/")));
  // An address that nobody knows is the wall's.
  const entry = found ?? views.find(({ prefix }) => prefix === "/");
  return { entry, params: { rest: found ? decode(path.slice(entry.prefix.length + 1)) : "", query: new URLSearchParams(query ?? "") } };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (error instanceof URIError) return text;
    throw error;
  }
}

function show() {
  const { entry, params } = parse(location.hash || "#/");
  const first = shown === null;
  const path = `${entry.prefix} ${params.rest}`;
  document.title = entry.view.title ? `${entry.view.title(params)} – streamer` : "streamer";
  if (shown === entry && where === path && entry.view.update) return entry.view.update(params);
  if (shown) hide(shown);
  [shown, where] = [entry, path];
  entry.element.hidden = false;
  for (const link of document.querySelectorAll("nav a"))
    if (link.hash === `#${entry.prefix}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  entry.view.enter(entry.element, params);
  if (first) return;
  // A new view is read from its top, by eye and by ear.
  scrollTo(0, 0);
  const heading = entry.element.querySelector("h2");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus({ preventScroll: true });
}

function hide({ view, element }) {
  view.leave?.();
  element.hidden = true;
  if (!view.element) element.replaceChildren();
}
