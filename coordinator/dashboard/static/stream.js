// The one live stream: reads server-sent events, and comes back by itself when they stop.
//
// Not an EventSource: that can send no token. States, told to `on.state`: "live"; "lost" (with seconds until the next
// try); "ended" (the coordinator said that it goes; it is looked for now and then, for it may come back at the same
// address); "token" (it wants one; nothing is tried until `again`).

import { open } from "./api.js";

const SILENT_MS = 6000; // an event comes each second
const WAITS = [1, 2, 3, 5, 10]; // seconds, the last one again and again
const ENDED_WAIT = 5;

export class Stream {
  constructor(on) {
    this.on = on;
    this.tries = 0;
    this.ended = false;
    this.timer = 0;
    this.abort = null;
  }

  // Now, whatever was planned.
  again() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.run();
  }

  async run() {
    const abort = (this.abort = new AbortController());
    let outcome = "lost";
    try {
      outcome = await this.listen(abort);
    } catch {
      // lost, for whatever reason
    }
    if (this.abort !== abort) return; // `again` has another one under way
    if (outcome === "token") {
      this.on.state("token");
      return;
    }
    if (outcome === "ended") this.ended = true;
    const wait = this.ended ? ENDED_WAIT : WAITS[Math.min(this.tries++, WAITS.length - 1)];
    this.on.state(this.ended ? "ended" : "lost", { wait, full: outcome === "full" });
    this.timer = setTimeout(() => this.run(), wait * 1000);
  }

  async listen(abort) {
    let watch = 0;
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => abort.abort(), SILENT_MS);
    };
    alive();
    try {
      const response = await open("/events", abort.signal);
      if (response.status === 401) return "token";
      if (!response.ok) return response.status === 503 ? "full" : "lost";
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let held = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return "lost";
        alive();
        held += value;
        const events = held.split("\n\n");
        held = events.pop();
        for (const event of events) if (this.take(event) === "end") return "ended";
      }
    } finally {
      clearTimeout(watch);
    }
  }

  take(event) {
    let name = "message";
    let content = "";
    for (const line of event.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) content += line.slice(6);
    }
    if (!content) return name;
    if (name === "status") {
      this.tries = 0;
      this.ended = false;
      this.on.state("live");
    }
    this.on.event(name, JSON.parse(content));
    return name;
  }
}
