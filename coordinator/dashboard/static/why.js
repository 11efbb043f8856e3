// Shows what became of a URL: a sentence, then all that is known of it, as text.

import { el } from "./dom.js";
import * as format from "./format.js";
import { groupOf } from "./outcomes.js";

const NAMES = {
  outcome: "outcome",
  status: "HTTP status",
  reason: "reason",
  error: "error",
  title: "title",
  depth: "links from a seed",
  referrer: "first linked from",
  seed: "seed",
  redirect_to: "redirects to",
  content_type: "content type",
  charset: "charset",
  length: "bytes",
  wire_length: "bytes received",
  elapsed_ms: "answered in, ms",
  fetched_at: "fetched at",
  attempts: "tries",
  due_in_seconds: "host due in",
  queued_before_it: "queued before it",
  refused_by: "refused by",
  ip: "address",
  noindex: "noindex",
  etag: "ETag",
  last_modified: "last modified",
  digest: "digest",
  record: "record",
  warc: "in WARC",
  round: "round",
  method: "method",
  lease: "lease",
};

const ORDER = Object.keys(NAMES);
const PLAIN = { method: "GET", round: 0, record: "response" }; // as nearly always: not worth a line
const TOLD_ABOVE = new Set(["url", "state", "why"]);

function sentence(found) {
  switch (found.state) {
    case "QUEUED": {
      const before = found.queued_before_it;
      const parts = [found.retry ? "Queued for another try" : "Queued"];
      if (before) parts.push(`${format.plural(before, "request")} of its host before it`);
      if (found.due_in_seconds) parts.push(`its host is due in ${format.time(found.due_in_seconds)}`);
      return `${parts.join("; ")}.`;
    }
    case "LEASED":
      return "Lent to a worker, which fetches it now or next.";
    case "NEVER_ADMITTED":
      return `Never admitted: ${found.why ?? "no rule is known"}.`;
    case "FETCHED":
      return `Fetched: ${found.outcome}${found.status ? `, status ${found.status}` : ""}${found.title ? `, “${found.title}”` : ""}.`;
    case "FAILED":
      return `Failed: ${found.outcome}${found.error ? `: ${found.error}` : ""}.`;
    case "EXCLUDED":
      return `Left out: ${found.outcome}${found.reason ? ` (${found.reason})` : ""}${found.error ? `: ${found.error}` : ""}.`;
    default:
      return String(found.state);
  }
}

function written(key, value) {
  if (key === "due_in_seconds") return format.time(value);
  if (Array.isArray(value))
    return value
      .map((each) => (each && typeof each === "object" ? Object.values(each).join(" ") : String(each)))
      .join("\n");
  if (value && typeof value === "object")
    return Object.entries(value)
      .map(([name, of]) => `${name.replaceAll("_", " ")} ${of}`)
      .join(", ");
  if (typeof value === "number") return Number.isInteger(value) ? format.number(value) : String(value);
  return String(value);
}

// "0" of queued_before_it and the like says something; nothing, false and empty say nothing.
const isNothing = (value) =>
  value === null ||
  value === "" ||
  value === false ||
  (typeof value === "object" && !Object.keys(value).length);

// What an answer of /why looks like.
export function explained(found) {
  const keys = Object.keys(found).filter(
    (key) => !TOLD_ABOVE.has(key) && !isNothing(found[key]) && found[key] !== PLAIN[key],
  );
  const rank = (key) => (ORDER.includes(key) ? ORDER.indexOf(key) : ORDER.length);
  keys.sort((a, b) => rank(a) - rank(b));
  const mark = el("i", { className: "mark", "aria-hidden": "true" });
  const open = found.state === "QUEUED" || found.state === "LEASED";
  mark.style.background = `var(--${found.outcome ? groupOf(found.outcome) : open ? "queued" : "excluded"})`;
  return [
    el("p", { className: "verdict" }, mark, el("span", {}, sentence(found))),
    el(
      "dl",
      { className: "facts told" },
      ...keys.map((key) =>
        el(
          "div",
          {},
          el("dt", {}, NAMES[key] ?? key.replaceAll("_", " ")),
          el("dd", {}, el("bdi", { className: "value" }, written(key, found[key]))),
        ),
      ),
    ),
  ];
}
