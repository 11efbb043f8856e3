// The dashboard: one stream in, one page out. Read next: stream.js, view.js, charts.js, steer.js.

import * as api from "./api.js";
import { Charts } from "./charts.js";
import { $, attribute, show, text } from "./dom.js";
import * as format from "./format.js";
import { Steer } from "./steer.js";
import { Stream } from "./stream.js";
import { View, isOver } from "./view.js";

const MINUTE_MS = 60_000;
const root = document.documentElement;

api.takeToken();
const steer = new Steer(() => {
  link = "connecting";
  stream.again();
});
const view = new View({
  why: (url) => steer.why(url),
  host: (name) => steer.openHost(name),
  retry: (outcome) => steer.retry(outcome),
});
const charts = new Charts($("charts"));

let last = null;
let link = "connecting";
let lost = 0; // when, and when it is tried again: milliseconds
let tryAt = 0;
let full = false;

const stream = new Stream({
  event(name, content) {
    if (name !== "status" && name !== "end") return;
    last = content;
    charts.add(last);
    if (!document.hidden) view.show(last);
    steer.show(last, link === "live");
  },
  state(state, told = {}) {
    if (state === "live" && link !== "live") loadHistory();
    if (state !== "live" && link === "live") lost = Date.now();
    if (state === "token" && link !== "token")
      steer.askForToken(
        api.hasToken()
          ? "The token is not right."
          : "This coordinator tells nobody anything without its token.",
        null,
      );
    link = state;
    tryAt = Date.now() + 1000 * (told.wait ?? 0);
    full = told.full ?? false;
    showLink();
    steer.show(last, link === "live");
  },
});

async function loadHistory() {
  try {
    charts.load(await api.get("/history"));
  } catch {
    // the next connection brings it
  }
}

const LINKS = {
  live: "live",
  lost: "no connection",
  ended: "ended",
  token: "needs the token",
  connecting: "connecting",
};

function showLink() {
  attribute(root, "data-link", link);
  text($("link-text"), LINKS[link]);
  const wait = Math.max(0, Math.ceil((tryAt - Date.now()) / 1000));
  const since = last && lost ? ` What is shown is from ${format.clock(lost / 1000)}.` : "";
  let said = "";
  if (link === "lost")
    said = full
      ? `Too many are watching already. Trying again in ${wait} s.`
      : `The coordinator does not answer.${since} Trying again in ${wait} s.`;
  else if (link === "ended")
    said =
      last && isOver(last)
        ? "The coordinator has ended; this is how things stood. The page comes back by itself if it is started again at this address."
        : "The coordinator is ending; this is how things stood.";
  else if (link === "token") said = "This coordinator tells nobody anything without its token.";
  text($("banner-text"), said);
  attribute($("banner"), "data-tone", link);
  text($("banner-button"), link === "token" ? "Give the token" : "Try now");
  show($("banner"), said !== "");
}

$("banner-button").addEventListener("click", () =>
  link === "token"
    ? steer.askForToken("It stands in coord.json, in the crawl's folder.", null)
    : stream.again(),
);

// One of several buttons is pressed.
function choice(id, name, then) {
  $(id).addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    for (const each of $(id).children) each.setAttribute("aria-pressed", String(each === button));
    then(button.dataset[name]);
  });
}

choice("range", "range", (range) => {
  charts.show(range);
  if (range === "minutes") loadHistory();
});
choice("hosts-choice", "hosts", (name) => view.chooseHosts(name));

function showTheme() {
  const dark = window.shoalTheme.isDark();
  text($("theme-button"), dark ? "Light" : "Dark");
  $("theme-button").setAttribute("aria-label", dark ? "Switch to light" : "Switch to dark");
}
$("theme-button").addEventListener("click", () => window.shoalTheme.turn());
document.addEventListener("themed", showTheme);
showTheme();

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (last) view.show(last);
  charts.draw();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, textarea, select")) return;
  if (event.key === "/") {
    event.preventDefault();
    $("why-url").focus();
  }
});

// By the minute the coordinator counts better than we would: its own history is read again.
setInterval(() => {
  if (link === "live" && charts.range === "minutes") loadHistory();
}, MINUTE_MS);
setInterval(() => {
  if (link !== "live") showLink();
}, 1000);

stream.run();
