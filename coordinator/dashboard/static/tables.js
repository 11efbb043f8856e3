// The four tables: what stands in their columns. `on` as in view.js.

import { $, Table, attribute, el, part, show, text } from "./dom.js";
import * as format from "./format.js";
import { groupOf, mayRetry } from "./outcomes.js";

export function outcomeTable(on) {
  return new Table(
    $("outcomes"),
    "Outcomes of requests",
    [
      {
        title: "outcome",
        kind: "name",
        fill(cell, row) {
          const mark = part(cell, "i", "mark");
          attribute(mark, "aria-hidden", "true");
          mark.style.background = `var(--${groupOf(row.name)})`;
          text(part(cell, "span", "word"), row.name);
        },
      },
      { title: "share", kind: "share", fill: (cell, row) => bar(cell, row.share, groupOf(row.name)) },
      { title: "requests", kind: "num", fill: (cell, row) => text(cell, format.number(row.count)) },
      {
        title: "",
        kind: "act",
        fill: (cell, row) => {
          const button = part(cell, "button", "row-button", () => {
            const made = el("button", { type: "button" }, "Retry");
            made.addEventListener("click", () => on.retry(made.dataset.outcome));
            return made;
          });
          button.dataset.outcome = row.name;
          attribute(button, "aria-label", `Queue all that ended as ${row.name} again`);
          show(button, mayRetry(row.name) && row.open);
        },
      },
    ],
    (row) => row.name,
    "Nothing has ended yet.",
  );
}

export function errorTable(on) {
  return new Table(
    $("errors"),
    "Recent errors, the newest first",
    [
      { title: "at", kind: "at", fill: (cell, row) => text(cell, format.clock(Date.parse(row.at) / 1000)) },
      {
        title: "what",
        kind: "what",
        fill: (cell, row) => {
          const line = part(cell, "div", "line");
          const mark = part(line, "i", "mark");
          attribute(mark, "aria-hidden", "true");
          mark.style.background = `var(--${groupOf(row.outcome)})`;
          text(part(line, "span", "word"), row.outcome);
          text(part(line, "span", "said"), row.error);
          text(part(line, "span", "note"), row.again ? "retry follows" : "given up");
          askable(part(cell, "div", "of"), row.url, on);
        },
      },
    ],
    (row) => `${row.at} ${row.outcome} ${row.url}`,
    "No fetch has failed since the coordinator started.",
  );
}

export function hostTable(on) {
  const dash = (value, told) => (value === null || value === undefined ? "–" : told(value));
  return new Table(
    $("hosts"),
    "Hosts",
    [
      {
        title: "host",
        kind: "name",
        fill: (cell, row) => {
          const button = part(cell, "button", "as-link", () => {
            const made = el("button", { type: "button", title: "Change or block it" }, el("bdi"));
            made.addEventListener("click", () => on.host(made.dataset.host));
            return made;
          });
          button.dataset.host = row.host;
          text(button.firstElementChild, row.host);
          text(part(cell, "span", "note"), row.given_up);
        },
      },
      { title: "queued", kind: "num", fill: (cell, row) => text(cell, format.number(row.queued)) },
      { title: "ended", kind: "num wide", fill: (cell, row) => text(cell, format.number(row.finished)) },
      {
        title: "delay",
        kind: "num",
        hint: "in force, and how many at once",
        fill: (cell, row) =>
          text(
            cell,
            `${row.per_host > 1 ? `${row.per_host} × ` : ""}${Number(row.delay_seconds.toFixed(2))} s`,
          ),
      },
      {
        title: "answers in",
        kind: "num wide",
        hint: "median of its last response times",
        fill: (cell, row) => text(cell, dash(row.elapsed_seconds, milliseconds)),
      },
      {
        title: "failures",
        kind: "num failures",
        hint: "in a row",
        fill: (cell, row) => {
          text(cell, format.number(row.failures));
          attribute(cell, "data-tone", row.failures ? "bad" : "");
        },
      },
      {
        title: "alone",
        kind: "num wide",
        hint: "what its queue takes at its delay, however fast all else is",
        fill: (cell, row) => text(cell, row.queued ? format.time(row.alone_seconds) : "–"),
      },
    ],
    (row) => row.host,
    "",
  );
}

export function workerTable() {
  return new Table(
    $("workers"),
    "Worker processes",
    [
      {
        title: "worker",
        kind: "name",
        fill(cell, row) {
          text(part(cell, "bdi", "word"), row.host);
          text(part(cell, "span", "note"), String(row.pid));
        },
      },
      { title: "pages/s", kind: "num", fill: (cell, row) => text(cell, format.rate(row.rate)) },
      {
        title: "in flight",
        kind: "load",
        hint: "of its lanes",
        fill: (cell, row) => {
          bar(cell, row.lanes ? row.in_flight / row.lanes : 0, "flight");
          text(part(cell, "span", "beside"), `${format.number(row.in_flight)} / ${format.number(row.lanes)}`);
        },
      },
      {
        title: "CPU",
        kind: "num cpu",
        hint: "of one processor",
        fill(cell, row) {
          text(part(cell, "span", "figure"), `${row.cpu_percent}%`);
          text(part(cell, "div", "note"), row.extract_percent ? `extractors ${row.extract_percent}%` : "");
        },
      },
      {
        title: "memory",
        kind: "num wide",
        fill: (cell, row) => text(cell, row.rss_bytes ? format.size(row.rss_bytes) : "–"),
      },
      {
        title: "bodies",
        kind: "num wide",
        hint: "held in memory",
        fill: (cell, row) => text(cell, format.size(row.held_bytes)),
      },
      {
        title: "late",
        kind: "num wide",
        hint: "by how much its loop was late at last",
        fill: (cell, row) => text(cell, `${format.number(row.lag_ms)} ms`),
      },
      {
        title: "fetched",
        kind: "num wide",
        hint: "since it was started",
        fill: (cell, row) => text(cell, format.number(row.fetched)),
      },
      {
        title: "heard",
        kind: "num heard",
        fill: (cell, row) => {
          text(
            cell,
            row.offline
              ? "offline"
              : row.heard_seconds < 1.5
                ? "now"
                : `${format.time(row.heard_seconds)} ago`,
          );
          attribute(cell, "data-tone", row.offline || row.heard_seconds > 20 ? "bad" : "");
        },
      },
    ],
    (row) => `${row.host} ${row.pid}`,
    "",
  );
}

function askable(parent, url, on) {
  const button = part(parent, "button", "as-link", () => {
    const made = el("button", { type: "button", title: "Ask about it" }, el("bdi"));
    made.addEventListener("click", () => on.why(made.dataset.url));
    return made;
  });
  button.dataset.url = url;
  text(button.firstElementChild, url);
}

function bar(cell, filled, tone) {
  const track = part(cell, "div", "track", () => el("div", { "aria-hidden": "true" }, el("i")));
  track.firstElementChild.style.width = `${Math.min(100, 100 * filled)}%`;
  track.firstElementChild.style.background = `var(--${tone})`;
}

export function milliseconds(seconds) {
  return seconds < 1 ? `${Math.round(1000 * seconds)} ms` : format.time(seconds);
}
