// Outcomes in the groups that are drawn in one colour; a name of a later version counts as failed.

export const GROUPS = [
  { id: "ok", name: "Fetched" },
  { id: "redirect", name: "Redirects" },
  { id: "client", name: "4xx" },
  { id: "server", name: "5xx" },
  { id: "failed", name: "Failed" },
  { id: "excluded", name: "Left out" },
];

const GROUP_OF = {
  OK: "ok",
  NOT_MODIFIED: "ok",
  TRUNCATED: "ok",
  TOO_LARGE: "ok",
  REDIRECT: "redirect",
  CLIENT_ERROR: "client",
  SERVER_ERROR: "server",
  ROBOTS_DENIED: "excluded",
  PRIVATE_ADDRESS: "excluded",
  TYPE_REJECTED: "excluded",
  UNSUPPORTED: "excluded",
  TRAP: "excluded",
  LIMIT: "excluded",
  OPERATOR: "excluded",
};

export const groupOf = (outcome) => GROUP_OF[outcome] ?? "failed";

// May do better another time: `coord retry` is offered for these.
const AGAIN = new Set(["SERVER_ERROR", "OPERATOR"]);

export const mayRetry = (outcome) => groupOf(outcome) === "failed" || AGAIN.has(outcome);
