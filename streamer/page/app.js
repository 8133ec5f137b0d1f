// The page's start: connects, and gives every view its context.
//
// No framework, no build step, nothing from elsewhere, on purpose: modules, <template>, <dialog>, <details> and canvas
// are what the browser brings. Who carries this service on writes Python; they edit a file here and reload. What is
// served is what is in the repository, and no view needs more state than one stream's last ten minutes.

import { Alerts } from "./alerts.js";
import { registerAlerts } from "./alertview.js";
import { context, TokenNeeded } from "./context.js";
import { Feed } from "./feed.js";
import { registerPast } from "./past.js";
import { registerPublish } from "./publish.js";
import { register, start } from "./router.js";
import { registerStream } from "./stream.js";
import { Wall } from "./wall.js";

const $ = (id) => document.getElementById(id);

function showLink(state, waitMs) {
  document.body.dataset.link = state;
  $("link").dataset.link = state;
  const lost = waitMs < 1000 ? "connection lost, trying again" : `connection lost, trying again in ${Math.round(waitMs / 1000)} s`;
  $("link").textContent = { connecting: "connecting", open: "connected", lost }[state];
}

function askToken(wrong) {
  showLink("lost", 0);
  $("link").textContent = "token needed";
  $("token-form").hidden = false;
  $("view").hidden = true;
  $("token-error").textContent = wrong ? "This token is not known." : "";
  $("token").focus();
  $("token-form").onsubmit = (event) => {
    event.preventDefault();
    context.useToken($("token").value.trim());
    begin();
  };
}

async function begin() {
  try {
    context.info = await context.ask("v1/info");
  } catch (error) {
    if (error instanceof TokenNeeded) return askToken(Boolean(context.token()));
    // The service is not there yet: the bar says so, and this tries until it is.
    console.debug(error);
    showLink("lost", 2000);
    return void setTimeout(begin, 2000);
  }
  context.useToken(context.token(), true);
  $("token-form").hidden = true;
  $("view").hidden = false;
  new Feed(feedUrl(context.info), {
    onMessage: (message) => context.take(message),
    onLink: showLink,
    expectsTraffic: () => wall.expectsTraffic,
  });
  context.poll();
  start();
  showFiring();
}

// What fires already when the page is opened: the websocket tells only of what comes.
async function showFiring() {
  try {
    const firing = await context.ask("v1/alerts?state=firing&limit=50");
    for (const { fired } of firing.alerts.toReversed()) alerts.take(fired);
  } catch (error) {
    console.debug(error);
  }
}

function feedUrl(info) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const url = new URL(`${scheme}//${location.hostname}:${info.websocket_port}${info.websocket_path}`);
  if (context.token()) url.searchParams.set("access_token", context.token());
  return url;
}

const alerts = new Alerts();
const wall = new Wall(context, alerts);
register("/", wall);
registerStream(context, register, alerts);
registerPast(context, register);
registerAlerts(context, register);
registerPublish(context, register);
context.onMessage((message) => {
  if (message.type !== "alert") return;
  alerts.take(message);
  context.announce(`${message.state === "cleared" ? "Alert cleared" : "Alert"}: ${message.text || message.rule}, ${message.stream}`);
});
addEventListener("keydown", (event) => wall.takeKey(event));
// A plain link to #view would be taken for a route.
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("view").focus();
});
begin();
