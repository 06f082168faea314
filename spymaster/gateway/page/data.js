// @ts-check
/** Streams as they flow, the gaps of the day, and the recorder's own figures. */

import { byId, make, put, table } from "./nodes.js";
import { NONE, count, known, rate, span } from "./numbers.js";
import { cause } from "./standing.js";

const MOST_GAPS = 50;
const NUMBERS = ["", "num", "num", "num", "num"];

export class Data {
  constructor() {
    this.streams = /** @type {HTMLElement} */ (document.querySelector("#streams tbody"));
    this.gaps = /** @type {HTMLElement} */ (document.querySelector("#gaps tbody"));
    this.figures = ["synced", "p99", "not in Bronze", "backlog", "dropped rows", "Gold snaps", "pages"].map((name) => {
      const figure = make("b");
      byId("recorder").append(make("span", "", `${name} `, figure));
      return figure;
    });
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  show(model, now) {
    if (!this.streams.parentElement?.offsetParent) return;
    const streams = Object.entries(model.doc.streams ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
    const silent = model.desk.silent ?? {};
    const past = now.name === "down" ? model.now - model.atMs : 0;
    table(
      this.streams,
      streams.map(([name, one]) => [
        `${silent[name] ? "silent: " : ""}${name.replace("/", " ")}`,
        rate(one.rows_s),
        known(one.lag_ms) ? count(one.lag_ms) : NONE,
        known(one.lag_p99_ms) ? count(one.lag_p99_ms) : NONE,
        known(one.age_ms) ? span(one.age_ms + past) : NONE,
      ]),
      NUMBERS,
    );
    streams.forEach(([name], i) =>
      this.streams.children[i].classList.toggle("t-warn", Boolean(silent[name]) || now.name === "down"),
    );
    this.#gaps(model);
    this.#recorder(model);
  }

  /** @param {import("./model.js").Model} model */
  #gaps(model) {
    const gaps = model.gaps.slice(0, MOST_GAPS);
    table(
      this.gaps,
      gaps.map((gap) => [
        known(gap.start_ns) ? model.zone.time(gap.start_ns / 1e6) : NONE,
        known(gap.start_ns) && known(gap.end_ns)
          ? span((gap.end_ns - gap.start_ns) / 1e6)
          : known(gap.rows)
            ? `${count(gap.rows)} rows`
            : NONE,
        `${model.streamName(gap.stream)} · ${cause(gap.cause)}`,
        gap.state,
      ]),
      ["", "", "", "strong"],
    );
    const more = model.gaps.length - gaps.length;
    put(byId("gapnote"), gaps.length ? (more > 0 ? `${more} older ones are not shown.` : "") : "No gap is known.");
  }

  /** @param {import("./model.js").Model} model */
  #recorder(model) {
    const of = model.health;
    const figures = [
      known(of.sync_p50_ms) ? `${of.sync_p50_ms.toFixed(1)} ms` : NONE,
      known(of.sync_p99_ms) ? `${of.sync_p99_ms.toFixed(0)} ms` : NONE,
      count(of.not_in_bronze),
      known(of.backlog_segments) ? `${count(of.backlog_segments)} segments` : NONE,
      count(of.dropped_rows),
      count(of.gold_snaps),
      count(of.clients),
    ];
    figures.forEach((figure, i) => put(this.figures[i], figure));
    put(
      byId("problems"),
      [...(of.problems ?? []).map(String), of.disk_level && of.disk_level !== "ok" ? String(of.disk_text ?? "") : ""]
        .filter(Boolean)
        .join(" · "),
    );
  }
}
