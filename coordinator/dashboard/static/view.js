// Shows a Status: what stands where. Reads nothing and asks nothing; `on.why(url)`, `on.host(name)` and
// `on.retry(outcome)` are called when somebody clicks a URL, a host or a retry.

import { $, attribute, el, keyed, part, show, text } from "./dom.js";
import * as format from "./format.js";
import { errorTable, hostTable, milliseconds, outcomeTable, workerTable } from "./tables.js";

const PHASES = {
  seeding: "Reading seeds",
  running: "Running",
  paused: "Paused",
  waiting: "Waiting",
  closing: "Closing",
  stopping: "Stopping",
  finished: "Finished",
  stopped: "Stopped",
};

const OVER = new Set(["finished", "stopped"]);
const ENDING = new Set([...OVER, "stopping"]);

const WORKERS_SHOWN = 50;
const ERRORS_SHOWN = 10;

export const isOver = (status) => OVER.has(status.phase);
export const isEnding = (status) => ENDING.has(status.phase);

const TILES = [
  {
    id: "rate",
    name: "pages/s",
    fill: (s) =>
      isOver(s)
        ? [format.rate(s.rate_average), "", "mean of this run"]
        : [format.rate(s.rate), "", `mean ${format.rate(s.rate_average)}`],
  },
  { id: "bytes", name: "received", fill: (s) => received(s) },
  {
    id: "in-flight",
    name: "in flight",
    fill: (s) => [format.number(s.in_flight), "", lanes(s) ? `of ${format.number(lanes(s))} lanes` : ""],
  },
  { id: "queued", name: "queued", fill: (s) => [format.number(s.queued), "", aside(s)] },
  {
    id: "pages",
    name: "ended",
    fill: (s) => [
      format.number(s.pages),
      "",
      s.pages === s.pages_now
        ? `of ${format.number(s.admitted)} admitted`
        : `${format.number(s.pages_now)} in this run`,
    ],
  },
  {
    id: "errors",
    name: "failed",
    fill: (s) => [format.number(s.errors), "", s.pages ? `${share(s.errors, s.pages)} of ended` : ""],
  },
  {
    id: "hosts",
    name: "hosts",
    fill: (s) => [
      format.number(s.hosts.known),
      "",
      `${format.number(s.hosts.ready)} ready, ${format.number(s.hosts.leased)} lent`,
    ],
  },
  {
    id: "workers",
    name: "workers",
    fill: (s) => [
      format.number(s.workers.length),
      "",
      s.workers_died ? `${format.number(s.workers_died)} died` : `${format.number(s.workers_joined)} came`,
    ],
  },
];

function received(status) {
  if (isOver(status)) return [...format.sizeParts(status.bytes_received), "in all"];
  const [figure, unit] = format.sizeParts(status.bytes_rate);
  return [figure, `${unit}/s`, `${format.size(status.bytes_received)} in all`];
}

const lanes = (status) => status.workers.reduce((sum, worker) => sum + worker.lanes, 0);

function share(some, all) {
  const percent = (100 * some) / all;
  return `${percent > 0 && percent < 10 ? percent.toFixed(1) : Math.round(percent)}%`;
}

function aside(status) {
  if (status.held_back) return `${format.number(status.held_back)} held back`;
  if (status.retries_waiting) return `${format.number(status.retries_waiting)} to retry`;
  return `${format.number(status.leased)} lent`;
}

export class View {
  constructor(on) {
    this.on = on;
    this.hostsShown = "long_queues";
    this.phase = "";
    this.tiles = TILES.map((tile) => {
      const [value, unit, note] = [el("b"), el("small"), el("span")];
      $("tiles").append(
        el(
          "div",
          { className: "tile", id: `tile-${tile.id}` },
          el("dt", {}, tile.name),
          el("dd", {}, value, unit, note),
        ),
      );
      return { tile, value, unit, note };
    });
    this.outcomes = outcomeTable(this.on);
    this.errors = errorTable(this.on);
    this.hosts = hostTable(this.on);
    this.workers = workerTable();
  }

  show(status) {
    this.status = status;
    this.top(status);
    for (const { tile, value, unit, note } of this.tiles) {
      const [figure, of, beside] = tile.fill(status);
      text(value, figure);
      text(unit, of ? ` ${of}` : "");
      text(note, beside);
    }
    attribute($("tile-errors"), "data-tone", status.errors ? "bad" : "");
    this.showOutcomes(status);
    this.showErrors(status);
    this.showHosts(status);
    this.showWorkers(status);
    this.showFacts(status);
  }

  chooseHosts(name) {
    this.hostsShown = name;
    if (this.status) this.showHosts(this.status);
  }

  // -- what stands first

  top(status) {
    const phase = PHASES[status.phase] ?? status.phase;
    text($("phase"), phase);
    attribute(document.documentElement, "data-phase", status.phase);
    text($("directory"), status.directory);
    document.title = `${phase} · ${status.directory} · Shoal`;
    const times = [`${format.time(status.elapsed_seconds)} so far`];
    if (isOver(status)) times[0] = `after ${format.time(status.elapsed_seconds)}`;
    else if (status.eta_seconds !== null) times.push(`about ${format.time(status.eta_seconds)} left`);
    if (status.round) times.push(`round ${status.round}`);
    text($("times"), times.join(" · "));
    prose(
      $("limits"),
      isOver(status)
        ? ended(status)
        : status.limits || (status.phase === "running" ? "Nothing holds it up." : ""),
    );
    const also = isOver(status) ? [] : status.waiting.slice(1, 5);
    keyed(
      $("also"),
      also,
      (each) => each.what,
      () => el("li"),
      (node, each) => prose(node, each.text),
    );
    const known = status.pages + status.queued + status.leased;
    const percent = known ? (100 * status.pages) / known : 0;
    const bar = $("bar");
    attribute(bar, "aria-valuenow", String(Math.floor(percent)));
    bar.firstElementChild.style.width = `${percent}%`;
    text(
      $("progress-text"),
      `${format.number(status.pages)} of ${format.number(known)} known URLs have ended${status.seeds.reading ? `; ${format.number(status.seeds.read)} seeds read so far` : ""}`,
    );
    if (this.phase !== status.phase) {
      if (this.phase) text($("spoken"), `The crawl is ${phase.toLowerCase()}. ${status.limits}`);
      this.phase = status.phase;
    }
  }

  // -- outcomes

  showOutcomes(status) {
    const counts = Object.entries(status.outcomes).filter(([, count]) => count);
    const most = Math.max(1, ...counts.map(([, count]) => count));
    const rows = counts
      .sort((a, b) => b[1] - a[1])
      .map(([name, count]) => ({ name, count, share: count / most, open: !isEnding(status) }));
    this.outcomes.fill(rows);
    text($("outcomes-sum"), rows.length ? format.plural(status.pages, "request") : "");
  }

  // -- errors

  showErrors(status) {
    const rows = status.recent_errors.slice(0, ERRORS_SHOWN);
    this.errors.fill(rows);
    text($("errors-sum"), rows.length > 1 ? `the last ${rows.length}, the newest first` : "");
  }

  // -- hosts

  showHosts(status) {
    const empty = {
      long_queues: "No host has anything queued.",
      slow_hosts: "No host has answered often enough to tell.",
      failing_hosts: "No host fails.",
    };
    attribute($("hosts"), "data-shown", this.hostsShown);
    this.hosts.fill(status[this.hostsShown], { empty: empty[this.hostsShown] });
    const { known, ready, waiting, leased } = status.hosts;
    text(
      $("hosts-sum"),
      known
        ? `${format.number(known)} known · ${format.number(ready)} ready · ${format.number(waiting)} not due · ${format.number(leased)} lent`
        : "",
    );
    const failing = status.failing_hosts.length;
    text($("hosts-choice").lastElementChild, failing ? `Failing (${failing})` : "Failing");
  }

  // -- workers

  showWorkers(status) {
    const empty = isOver(status)
      ? "They have left: the crawl is over."
      : status.worker_command
        ? `None is there. On this machine or others: ${status.worker_command}`
        : "The local workers are starting.";
    const rows = status.workers.slice(0, WORKERS_SHOWN);
    this.workers.fill(rows, { all: status.workers.length, empty });
    text(
      $("workers-sum"),
      rows.length
        ? `${format.plural(status.workers.length, "process", "es")} · ${format.number(lanes(status))} lanes`
        : "",
    );
  }

  // -- the rest

  showFacts(status) {
    const full = status.bytes_rate > 0 ? status.disk_free_bytes / status.bytes_rate : Infinity;
    facts($("machine"), [
      [
        "Disk free",
        format.size(status.disk_free_bytes),
        full < 30 * 86400 ? `full in ${format.time(full)} at most, at this rate` : "",
      ],
      ["Memory", status.memory_bytes ? format.size(status.memory_bytes) : "–", "of the coordinator"],
      ["CPU", `${status.cpu_percent}%`, "of one processor"],
      [
        "Commits",
        `${format.rate(status.commits_rate)}/s`,
        `the last took ${milliseconds(status.commit_seconds)}`,
      ],
      [
        "Seeds",
        format.number(status.seeds.read),
        status.seeds.bad
          ? `${format.number(status.seeds.bad)} bad: see ${status.directory}/seeds`
          : "none bad",
      ],
      ...(status.protocol_errors
        ? [
            [
              "Broken messages",
              format.number(status.protocol_errors),
              "their senders are not listened to any more",
            ],
          ]
        : []),
    ]);
    const left = [
      ...Object.entries(status.items).map(([kind, count]) => [`Items: ${kind}`, format.number(count), ""]),
      ...(status.files ? [["Files", format.number(status.files), format.size(status.file_bytes)]] : []),
      ...status.poison.map((url) => ["Poison: look at it", url, ""]),
      ...Object.entries(status.refused).map(([rule, count]) => [
        `Links left out: ${rule}`,
        format.number(count),
        "",
      ]),
      ...Object.entries(status.guarded).map(([guard, count]) => [
        `Traps: ${guard}`,
        format.number(count),
        "",
      ]),
      ...Object.entries(status.again).map(([what, count]) => [
        `Round ${status.round}: ${what}`,
        format.number(count),
        "",
      ]),
      ...[
        ["Payloads stored before", status.revisits],
        ["Near duplicates", status.near_duplicates],
        ["Sitemaps", status.sitemaps],
        ["Pages whose extractor failed: items lost", status.unextracted],
        ["Queued again by a person", status.retried],
        ["Visited again for links", status.relinked],
      ]
        .filter(([, count]) => count)
        .map(([name, count]) => [name, format.number(count), ""]),
    ];
    facts($("left"), left);
    show($("left-card"), left.length > 0);
    text($("foot-left"), `Started ${status.started_at.slice(0, 19).replace("T", " ")} UTC`);
  }
}

function ended(status) {
  const why = status.reason && status.reason !== "finished" ? ` (${status.reason})` : "";
  const counted = `${format.plural(status.pages_now, "request")} ended in this run, ${format.rate(status.rate_average)} a second, ${format.size(status.bytes_received)} in all.`;
  if (status.phase === "finished") return `All is done${why}. ${counted}`;
  return `Ended before all was done${why}; nothing is lost, \`${status.command} --out ${status.directory}\` goes on. ${counted}`;
}

// A sentence with options and `commands` in it, which are set as such and not broken in two.
function prose(node, sentence) {
  if (node.dataset.said === sentence) return;
  node.dataset.said = sentence;
  const parts = sentence.split(/(`[^`]+`|--[a-z][a-z-]*(?: [0-9.]+)?)/);
  node.replaceChildren(
    ...parts.map((piece) => {
      if (piece.startsWith("`")) return el("code", { className: "long" }, piece.slice(1, -1));
      return piece.startsWith("--") ? el("code", {}, piece) : piece;
    }),
  );
}

function facts(list, rows) {
  keyed(
    list,
    rows,
    ([name]) => name,
    ([name]) => el("div", {}, el("dt", {}, name), el("dd")),
    (node, [, value, note]) => {
      const cell = node.lastElementChild;
      text(part(cell, "b", "value"), value);
      text(part(cell, "span", "note"), note);
    },
  );
}
