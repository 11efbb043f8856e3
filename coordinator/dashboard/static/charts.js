// How it went: five charts over one time, drawn by uPlot from columns.
//
// The past comes from /history; each status adds a point, worked out as history.py does it: what was counted since the
// status before it, per second. The charts share a cursor; where it points, their figures are told in their headings.

import { el, text } from "./dom.js";
import * as format from "./format.js";
import { GROUPS, groupOf } from "./outcomes.js";

const KEPT = 600; // points, as in history.py
const HALF_LABEL = 18; // pixels
const LEAST_SECONDS = 60; // of time shown, so that a young crawl does not look coarse

// Fetched pages would hide all else, so the second chart has what is not among them.
const CHARTS = [
  {
    id: "pages",
    title: "Pages/s",
    wide: true,
    lines: [
      { name: "pages", label: "all", colour: "bytes" },
      { name: "ok", label: "fetched", colour: "ok", filled: true },
    ],
    tell: format.rate,
  },
  {
    id: "outcomes",
    title: "Other outcomes/s",
    wide: true,
    lines: GROUPS.slice(1).map((group) => ({
      name: group.id,
      label: group.name.toLowerCase(),
      colour: group.id,
    })),
    stacked: true,
    tell: format.rate,
  },
  {
    id: "bytes",
    title: "Bytes/s",
    lines: [{ name: "bytes", colour: "bytes", filled: true }],
    tell: format.size,
    bytes: true,
  },
  {
    id: "in_flight",
    title: "In flight",
    lines: [{ name: "in_flight", colour: "flight", filled: true }],
    tell: format.number,
  },
  {
    id: "queued",
    title: "Queued",
    lines: [{ name: "queued", colour: "queued", filled: true }],
    tell: format.number,
  },
];

// Where the axis of bytes may have its lines.
const POWERS = Array.from({ length: 44 }, (_, power) => 2 ** power);

const NAMES = ["pages", "bytes", "in_flight", "queued", ...GROUPS.map((group) => group.id)];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const faint = (name) => `color-mix(in srgb, ${colour(name)} 16%, transparent)`;

function empty() {
  return Object.fromEntries([["at", []], ...NAMES.map((name) => [name, []])]);
}

function columns(series) {
  const made = empty();
  if (!series?.at) return made;
  for (const name of ["at", "pages", "bytes", "in_flight", "queued"]) made[name] = [...series[name]];
  for (const group of GROUPS) made[group.id] = new Array(made.at.length).fill(0);
  for (const [outcome, values] of Object.entries(series.outcomes))
    values.forEach((value, at) => (made[groupOf(outcome)][at] += value));
  return made;
}

export class Charts {
  constructor(parent) {
    this.series = { seconds: empty(), minutes: empty() };
    this.range = "seconds";
    this.last = null;
    this.drawn = CHARTS.map((chart) => this.make(parent, chart));
    this.observer = new ResizeObserver(() => this.resize());
    for (const each of this.drawn) this.observer.observe(each.box);
    document.addEventListener("themed", () => this.rebuild());
  }

  load(history) {
    const now = this.series.seconds.at.at(-1) ?? 0;
    this.series = { seconds: columns(history.seconds), minutes: columns(history.minutes) };
    if (now > (this.series.seconds.at.at(-1) ?? 0)) this.last = null; // never twice, never backwards
    this.draw();
  }

  show(range) {
    this.range = range;
    this.draw();
  }

  // A status; the first one after a gap only tells from where to count.
  add(status) {
    const at = Date.parse(status.started_at) / 1000 + status.elapsed_seconds;
    const before = this.last;
    const same = before?.started_at === status.started_at;
    const took = same ? status.elapsed_seconds - before.elapsed_seconds : 0;
    if (before && took > 0 && took < 0.5) return;
    this.last = status;
    const held = this.series.seconds;
    if (!(took > 0) || !Number.isFinite(at) || at <= (held.at.at(-1) ?? 0)) return;
    const grown = (now, then) => Math.max(0, (now ?? 0) - (then ?? 0)) / took;
    held.at.push(at);
    held.pages.push(grown(status.pages, before.pages));
    held.bytes.push(grown(status.bytes_received, before.bytes_received));
    held.in_flight.push(status.in_flight);
    held.queued.push(status.queued);
    const groups = Object.fromEntries(GROUPS.map((group) => [group.id, 0]));
    for (const [outcome, count] of Object.entries(status.outcomes))
      groups[groupOf(outcome)] += grown(count, before.outcomes[outcome]);
    for (const group of GROUPS) held[group.id].push(groups[group.id]);
    if (held.at.length > KEPT) for (const column of Object.values(held)) column.shift();
    this.draw();
  }

  draw() {
    if (document.hidden) return;
    for (const each of this.drawn) {
      each.plot.setData(this.data(each.chart));
      this.tell(each, each.plot.cursor.idx);
    }
  }

  // -- within

  data(chart) {
    const held = this.series[this.range];
    const lines = chart.lines.map((line) => held[line.name]);
    if (!chart.stacked) return [held.at, ...lines];
    // Each on top of those before it; the highest is drawn first, so that the lower ones lie over it.
    const sums = [];
    let below = new Array(held.at.length).fill(0);
    for (const line of lines) {
      below = line.map((value, at) => value + below[at]);
      sums.unshift(below);
    }
    return [held.at, ...sums];
  }

  make(parent, chart) {
    const figures = chart.lines.map((line) => {
      const value = el("b");
      const mark = el("i", { "aria-hidden": "true" });
      mark.style.background = `var(--${line.colour})`;
      return { value, node: el("span", {}, mark, ...(line.label ? [`${line.label} `] : []), value) };
    });
    const when = el("span", { className: "when" });
    const box = el("div", { className: "plot", role: "img", "aria-label": `${chart.title} over time` });
    const head = el(
      "figcaption",
      {},
      el("h3", {}, chart.title),
      when,
      el("span", { className: "figures" }, ...figures.map((of) => of.node)),
    );
    const shape = chart.wide ? "card chart wide" : "card chart";
    parent.append(el("figure", { className: shape, id: `chart-${chart.id}` }, head, box));
    const each = { chart, box, figures, when };
    each.plot = this.plot(each);
    return each;
  }

  plot(each) {
    const { chart, box } = each;
    const axis = { stroke: colour("muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: colour("grid"), width: 1 };
    const drawn = chart.stacked ? [...chart.lines].reverse() : chart.lines;
    const options = {
      width: Math.max(200, box.clientWidth),
      height: Math.max(80, box.clientHeight),
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "shoal" },
        y: false,
        points: { show: !chart.stacked, size: 6 },
        drag: { x: false, y: false },
      },
      scales: {
        x: { time: true, range: (u, min, max) => this.span(min, max) },
        y: { range: (u, min, max) => [0, Math.max(max * 1.12, chart.bytes ? 1024 : 1)] },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 24,
          gap: 4,
          space: 64,
          values: (u, ticks) => ticks.map((at) => this.label(u, at, ticks)),
        },
        {
          ...axis,
          grid,
          size: 56,
          gap: 6,
          space: chart.wide ? 28 : 22,
          values: (u, ticks) =>
            ticks.map((value) => (chart.bytes ? format.size(value) : format.short(value))),
          ...(chart.bytes ? { incrs: POWERS, size: 64 } : {}),
        },
      ],
      series: [
        {},
        ...drawn.map((line) => ({
          stroke: colour(line.colour),
          width: chart.stacked ? 0 : 1.5,
          fill: chart.stacked ? colour(line.colour) : line.filled ? faint(line.colour) : undefined,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [(u) => this.tell(each, u.cursor.idx)] },
    };
    return new uPlot(options, this.data(chart), box);
  }

  // The time shown: all there is, at least a minute of it.
  span(min, max) {
    const least = this.range === "seconds" ? LEAST_SECONDS : 60 * LEAST_SECONDS;
    const end = Number.isFinite(max) ? max : Date.now() / 1000;
    return [Math.min(Number.isFinite(min) ? min : end, end - least), end];
  }

  label(u, at, ticks) {
    if (u.valToPos(at, "x") > u.over.clientWidth - HALF_LABEL) return null; // it would be cut off
    return format.clock(at, ticks.length > 1 && ticks[1] - ticks[0] < 60);
  }

  // Into the heading: what was where the cursor points, else what is now.
  tell(each, index) {
    const held = this.series[this.range];
    const at = index ?? held.at.length - 1;
    text(
      each.when,
      index === null || index === undefined || held.at[at] === undefined ? "" : format.clock(held.at[at]),
    );
    each.chart.lines.forEach((line, position) => {
      const value = held[line.name][at];
      text(each.figures[position].value, value === undefined ? "–" : each.chart.tell(value));
    });
  }

  resize() {
    for (const each of this.drawn) {
      const { clientWidth: width, clientHeight: height } = each.box;
      const differs = width !== each.plot.width || height !== each.plot.height;
      if (width && height && differs) each.plot.setSize({ width, height });
    }
  }

  rebuild() {
    for (const each of this.drawn) {
      each.plot.destroy();
      each.plot = this.plot(each);
    }
  }
}
