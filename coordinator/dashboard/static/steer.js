// What a person changes: the buttons, and the dialogs behind them. Every change is one request; without a token, or with
// an old one, it asks for the token first and then goes on with what was wanted.

import * as api from "./api.js";
import { $, el, text } from "./dom.js";
import * as format from "./format.js";
import { isEnding } from "./view.js";
import { explained } from "./why.js";

const TOAST_MS = 7000;
const TOASTS = 4;

const NUMBERS = ["delay", "per_host", "max_rate", "max_pages", "max_pages_per_host", "max_depth"];
const LISTS = ["allow", "deny"];

export function toast(said, tone = "good") {
  const node = el("p", { className: "toast", "data-tone": tone }, said);
  $("toasts").append(node);
  while ($("toasts").children.length > TOASTS) $("toasts").firstElementChild.remove();
  setTimeout(() => node.remove(), tone === "bad" ? 2 * TOAST_MS : TOAST_MS);
}

const lines = (value) =>
  value
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
const changed = (told) => (told.length ? told.join("\n") : "Nothing changed: that is how it was.");

export class Steer {
  // `reread`: called when a token was given, so that the stream tries again.
  constructor(reread) {
    this.reread = reread;
    this.status = null;
    this.live = false;
    this.wanted = null;
    this.before = {};
    this.bind();
    this.showToken();
  }

  show(status, live) {
    this.status = status ?? this.status;
    this.live = live;
    const able = live && this.status !== null && !isEnding(this.status);
    for (const id of ["pause", "add", "change", "stop"]) $(id).disabled = !able;
    const paused = this.status?.phase === "paused";
    text($("pause"), paused ? "Resume" : "Pause");
    $("pause").classList.toggle("main", paused);
  }

  // -- one change

  // Returns the answer; null where the token is asked for first, and `again` is done then. Raises what was refused.
  async send(path, body, again) {
    try {
      return await api.post(path, body);
    } catch (error) {
      if (error.status !== 401) throw error;
      this.askForToken(
        api.hasToken()
          ? "The token is not right: there is a new one with each start of the coordinator."
          : "Changes need the crawl's token.",
        again,
      );
      return null;
    }
  }

  async click(path, body, tell) {
    try {
      const answer = await this.send(path, body, () => this.click(path, body, tell));
      if (answer) toast(tell(answer));
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  // From a dialog: what is refused is said in it, and it stays open.
  async submit(dialog, path, body, tell) {
    const wrong = dialog.querySelector(".wrong");
    text(wrong, "");
    dialog.classList.add("busy");
    try {
      const answer = await this.send(path, body, () => this.submit(dialog, path, body, tell));
      if (!answer) return;
      dialog.close();
      toast(tell(answer));
    } catch (error) {
      text(wrong, error.message);
    } finally {
      dialog.classList.remove("busy");
    }
  }

  pause() {
    if ($("pause").disabled) return;
    if (this.status?.phase === "paused") this.click("/resume", {}, () => "It goes on.");
    else this.click("/pause", {}, () => "Paused: what is in flight is brought home, nothing new is fetched.");
  }

  retry(outcome) {
    this.click("/retry", { outcomes: [outcome] }, (answer) =>
      answer.queued
        ? `${format.plural(answer.queued, "request")} queued again.`
        : `Nothing ended as ${outcome} in this round.`,
    );
  }

  // -- the dialogs

  bind() {
    for (const dialog of document.querySelectorAll("dialog")) {
      for (const button of dialog.querySelectorAll("[data-close]"))
        button.addEventListener("click", () => dialog.close());
      dialog.addEventListener("click", (event) => {
        if (event.target === dialog) dialog.close(); // beside it
      });
    }
    const submitted = (id, then) =>
      $(id).addEventListener("submit", (event) => {
        event.preventDefault();
        then();
      });

    $("pause").addEventListener("click", () => this.pause());
    $("stop").addEventListener("click", () => {
      text($("stop-command"), `${this.status.command} --out ${this.status.directory}`);
      this.open("stop-dialog");
    });
    const stop = (now) => this.submit($("stop-dialog"), "/stop", { now }, () => "Stopping.");
    submitted("stop-form", () => stop(false));
    $("stop-now").addEventListener("click", () => stop(true));

    $("add").addEventListener("click", () => this.open("add-dialog"));
    submitted("add-form", () => {
      const seeds = lines($("add-text").value);
      if (!seeds.length) return text($("add-dialog").querySelector(".wrong"), "Give at least one seed.");
      this.submit($("add-dialog"), "/add", { seeds }, (told) => {
        $("add-text").value = "";
        return `Seeds: ${told.added} added, ${told.known} known already${told.bad ? `, ${told.bad} bad: see seeds/` : ""}.`;
      });
    });

    $("change").addEventListener("click", () => this.openChange());
    submitted("change-form", () => this.change());
    $("change-host").addEventListener("click", () => {
      $("change-dialog").close();
      this.openHost("");
    });
    submitted("host-form", () => this.changeHost());
    $("host-block").addEventListener("click", () => this.block(false));
    $("host-unblock").addEventListener("click", () => this.block(true));

    submitted("why-form", () => this.why($("why-url").value));

    $("token-button").addEventListener("click", () =>
      this.askForToken(
        api.hasToken() ? "This tab has a token." : "Reading is open here; changes need the crawl's token.",
        null,
      ),
    );
    submitted("token-form", () => this.takeToken());
    $("token-forget").addEventListener("click", () => {
      api.keepToken("");
      this.showToken();
      $("token-dialog").close();
      this.reread();
    });
  }

  open(id) {
    const dialog = $(id);
    text(dialog.querySelector(".wrong") ?? el("p"), "");
    if (!dialog.open) dialog.showModal();
  }

  // -- options

  async inForce() {
    try {
      return await api.get("/options");
    } catch (error) {
      if (error.status === 401) this.askForToken("Reading needs the crawl's token here.", null);
      else toast(error.message, "bad");
      return null;
    }
  }

  async openChange() {
    const found = await this.inForce();
    if (!found) return;
    this.before = {};
    const fields = $("change-form").elements;
    for (const name of [...NUMBERS, ...LISTS]) {
      const value = found.options[name];
      this.before[name] = LISTS.includes(name)
        ? (value ?? []).join("\n")
        : value === null || value === undefined
          ? ""
          : String(value);
      fields[name].value = this.before[name];
    }
    text($("scope-kind"), `--scope ${found.scope}`);
    this.open("change-dialog");
  }

  change() {
    const options = {};
    for (const name of [...NUMBERS, ...LISTS]) {
      const given = $("change-form").elements[name].value;
      if (LISTS.includes(name)) {
        if (lines(given).join("\n") !== this.before[name]) options[name] = lines(given);
      } else if (given.trim() !== this.before[name]) options[name] = given.trim() || "none";
    }
    if (!Object.keys(options).length)
      return text($("change-dialog").querySelector(".wrong"), "Nothing is different yet.");
    this.submit($("change-dialog"), "/set", { options, host: null }, (told) => changed(told.changed));
  }

  async openHost(host) {
    const found = await this.inForce();
    if (!found) return;
    const fields = $("host-form").elements;
    fields.host.value = host;
    fields.delay.value = fields.per_host.value = "";
    const blocked = found.hosts.filter((rule) => rule.blocked).map((rule) => rule.match);
    const told = [];
    if (found.rules) told.push(`${format.plural(found.rules, "rule")} for hosts so far`);
    if (blocked.length)
      told.push(`blocked: ${blocked.slice(-5).join(", ")}${blocked.length > 5 ? ", …" : ""}`);
    text($("host-rules"), told.length ? `${told.join("; ")}.` : "No host has a rule of its own yet.");
    this.open("host-dialog");
    if (host) fields.delay.focus();
  }

  changeHost() {
    const fields = $("host-form").elements;
    const options = {};
    for (const name of ["delay", "per_host"])
      if (fields[name].value.trim()) options[name] = fields[name].value.trim();
    if (!Object.keys(options).length)
      return text($("host-dialog").querySelector(".wrong"), "Give a delay, or how many at once.");
    this.submit($("host-dialog"), "/set", { options, host: fields.host.value.trim() }, (told) =>
      changed(told.changed),
    );
  }

  block(undo) {
    const host = $("host-form").elements.host.value.trim();
    if (!host) return text($("host-dialog").querySelector(".wrong"), "Which host?");
    this.submit($("host-dialog"), "/block", { hosts: [host], undo }, (told) =>
      undo
        ? changed(told.changed)
        : `${host}: nothing more is fetched; ${format.plural(told.ending, "request")} end as OPERATOR.`,
    );
  }

  // -- a URL

  async why(url) {
    const asked = url.trim();
    if (!asked) return;
    text($("why-asked"), asked);
    $("why-answer").replaceChildren(el("p", { className: "empty" }, "Looking…"));
    this.open("why-dialog");
    try {
      $("why-answer").replaceChildren(...explained(await api.get(`/why?url=${encodeURIComponent(asked)}`)));
    } catch (error) {
      $("why-answer").replaceChildren(el("p", { className: "wrong" }, error.message));
      if (error.status === 401) {
        $("why-dialog").close();
        this.askForToken("Reading needs the crawl's token here.", () => this.why(asked));
      }
    }
  }

  // -- the token

  askForToken(why, then) {
    this.wanted = then;
    text($("token-why"), why);
    $("token-text").value = "";
    $("token-forget").hidden = !api.hasToken();
    this.open("token-dialog");
    $("token-text").focus();
  }

  takeToken() {
    const given = $("token-text").value.trim();
    if (!given) return text($("token-wrong"), "Paste the token.");
    const address = /[#&]token=([^&\s]+)/.exec(given); // the whole address does as well
    api.keepToken(address ? decodeURIComponent(address[1]) : given);
    this.showToken();
    $("token-dialog").close();
    const then = this.wanted;
    this.wanted = null;
    if (!this.live) this.reread();
    then?.();
  }

  showToken() {
    text($("token-button"), api.hasToken() ? "Can steer" : "Read only");
    $("token-button").dataset.has = String(api.hasToken());
    $("token-button").title = api.hasToken() ? "This tab has a token" : "Changes need the crawl's token";
  }
}
