// @ts-check
/** The state of the page: the daemon's document as merged so far, what the user chose, and rings of history. */

import { Zone, known, ms } from "./numbers.js";
import { Bars, Older, Scores } from "./rings.js";
import { isSum, kindName } from "./words.js";
import { merge } from "./wire.js";

/**
 * @typedef {{price: number, ids: string[], kinds: string[], direction: number, distance_ticks: number, touches:
 *   number, score: number | null, signal: string, signal_since_ns: number | null, confidence: number, whole:
 *   boolean, points: Record<string, number | null>, barrier: any, tape: any, fuel: any, runway: any, note: string
 *   | null, p_break: number | null, p_horizon_s: number | null, model_id: string | null, model_note: string |
 *   null}} Level
 */
/** @typedef {{held: number, broke: number, neither: number, n: number, low: number, high: number}} Held */
/**
 * @typedef {{gap_id: string, stream: string, cause: string, start_ns: number | null, end_ns: number | null, rows:
 *   number | null, detail: string, state: string}} Gap
 */

const STORED = "spymaster.page";
const KEEP_MS = 300; // a drag chooses at each frame of the screen
const CHOSEN = {
  theme: "",
  zone: "ET",
  tab: "why",
  section: "levels",
  level: "",
  span: 1200,
  end: 0,
  letters: true,
  sound: true,
  desktop: false,
  seen: 0,
};

/** What survives a reload. */
export class Chosen {
  constructor() {
    let stored = {};
    try {
      stored = JSON.parse(localStorage.getItem(STORED) ?? "{}");
    } catch {
      // Where the browser keeps nothing, the page begins as it does for a stranger.
    }
    this.of = { ...CHOSEN, ...stored };
    this.timer = 0;
    addEventListener("pagehide", () => this.#keep());
  }

  /** @param {Partial<typeof CHOSEN>} given */
  set(given) {
    Object.assign(this.of, given);
    this.timer ||= window.setTimeout(() => this.#keep(), KEEP_MS);
  }

  #keep() {
    clearTimeout(this.timer);
    this.timer = 0;
    try {
      localStorage.setItem(STORED, JSON.stringify(this.of));
    } catch {
      // As above.
    }
  }
}

export class Model {
  constructor() {
    this.chosen = new Chosen();
    /** @type {any} */
    this.doc = {};
    this.version = 0; // of the document
    this.bars = new Bars();
    this.older = new Older();
    this.scores = new Scores();
    this.began = false; // a full frame came
    this.atMs = NaN; // the daemon's clock at the newest frame
    this.atPerf = NaN;
    this.snapMs = NaN;
    this.snapPerf = NaN;
    this.session = "";
    this.market = "America/New_York";
    this.listed = this.gapped = -1; // the version that `list`, and `gapList`, are of
    /** @type {[string, Level][]} */
    this.list = [];
    /** @type {Gap[]} */
    this.gapList = [];
    /** @type {Zone} */
    this.zone = new Zone("ET", "America/New_York");
    /** @type {{component: string | null, marks: {t: number, price: number}[]}} */
    this.evidence = { component: null, marks: [] };
  }

  /** @param {any} frame */
  take(frame) {
    this.atMs = frame.at_ns / 1e6;
    this.atPerf = performance.now();
    if (frame.type === "beat") {
      for (const [stream, age] of Object.entries(frame.ages ?? {}))
        if (this.doc.streams?.[stream]) this.doc.streams[stream].age_ms = age;
      return;
    }
    const given = frame.type === "full" ? { ...frame } : { ...frame.set };
    const bars = given.bars ?? [];
    for (const key of ["bars", "type", "n", "at_ns"]) delete given[key];
    if (frame.type === "full") {
      this.doc = given;
      this.began = true;
    } else merge(this.doc, given);
    this.version++;
    this.#moved(bars);
  }

  /** @param {number[][]} bars */
  #moved(bars) {
    const snap = this.snap;
    const session = `${snap?.contract ?? ""} ${snap?.session ?? ""}`;
    if (snap?.contract && session !== this.session) {
      if (this.session) this.bars.clear();
      this.older.count = this.older.step = 0;
      this.session = session;
    }
    this.bars.put(bars);
    const at = ms(snap?.ts_event_ns);
    if (known(at) && at !== this.snapMs) {
      this.snapMs = at;
      this.snapPerf = performance.now();
      const level = this.level;
      if (level && this.scores.level === this.chosen.of.level) this.scores.put(at, level.score);
    }
    const market = this.run.zone_label ?? "America/New_York";
    if (this.zone.name !== this.chosen.of.zone || this.market !== market) {
      this.market = market;
      this.zone = new Zone(/** @type {any} */ (this.chosen.of.zone), market);
    }
  }

  get run() {
    return this.doc.run ?? {};
  }

  get desk() {
    return this.doc.desk ?? {};
  }

  get health() {
    return this.doc.health ?? {};
  }

  get snap() {
    return this.doc.snap ?? null;
  }

  get tick() {
    return this.run.tick ?? 0.25;
  }

  /** The mid of the newest snap. */
  get mid() {
    return this.snap?.spot ?? null;
  }

  /** The last price traded; the mid where none is known. */
  get price() {
    return this.bars.price ?? this.mid;
  }

  /** The daemon's clock now, UTC ms. */
  get now() {
    return this.atMs + performance.now() - this.atPerf;
  }

  /** For how long there is something of the market, in its own seconds. */
  get recordedS() {
    const begun = this.run.recorded_since_ns / 1e6;
    const of = Math.abs(this.now - this.snapMs) < 3_600_000 ? this.marketNow - begun : NaN;
    return known(of) ? of / 1000 : this.marketNow / 1000 - this.bars.oldest;
  }

  /** The market's time now: that of the newest snap, and what has passed since. */
  get marketNow() {
    const speed = known(this.run.speed) && this.run.speed > 0 ? this.run.speed : 1;
    const past = (performance.now() - this.snapPerf) * speed;
    return known(this.snapMs) ? this.snapMs + past : this.now;
  }

  /** Levels of the newest snap, the highest first: `[id, level]`. @returns {[string, Level][]} */
  get levels() {
    if (this.listed !== this.version) {
      this.listed = this.version;
      this.list = Object.entries(this.snap?.levels ?? {}).sort((a, b) => b[1].price - a[1].price);
    }
    return this.list;
  }

  /** The nearest level to the mid, of two the higher. @returns {[string, Level] | null} */
  get nearest() {
    /** @type {[string, Level] | null} */
    let found = null;
    for (const one of this.levels) {
      if (found === null || Math.abs(one[1].distance_ticks) < Math.abs(found[1].distance_ticks)) found = one;
    }
    return found;
  }

  /** The nearest level on the other side of the mid than the nearest of all. @returns {[string, Level] | null} */
  get opposite() {
    const near = this.nearest;
    if (!near) return null;
    const up = near[1].distance_ticks > 0;
    const others = this.levels.filter(([, level]) => level.distance_ticks > 0 !== up && level.distance_ticks !== 0);
    return (up ? others[0] : others.at(-1)) ?? null;
  }

  /** The chosen level. @returns {Level | null} */
  get level() {
    return this.snap?.levels?.[this.chosen.of.level] ?? null;
  }

  /** @returns {Gap[]} those of the bars' own streams, of which the time is known */
  get chartGaps() {
    return this.gaps.filter(
      (gap) =>
        /^futures\.(mbp10|trades)\//.test(gap.stream) &&
        known(gap.start_ns) &&
        known(gap.end_ns) &&
        gap.state !== "filled-verified",
    );
  }

  /** @returns {Gap[]} the newest first */
  get gaps() {
    if (this.gapped !== this.version) {
      this.gapped = this.version;
      this.gapList = /** @type {Gap[]} */ (Object.values(this.doc.gaps ?? {})).sort(
        (a, b) => (b.start_ns ?? 0) - (a.start_ns ?? 0),
      );
    }
    return this.gapList;
  }

  /** Whether a level's price is a sum that a hole lies in. @param {Level} level */
  approximate(level) {
    return level.whole === false || (isSum(level) && this.snap?.vwap_gap === true);
  }

  /** @param {Level} level */
  held(level) {
    return this.doc.held?.[level.kinds?.[0] ?? ""];
  }

  /** `futures.mbp10/ES` as people say it. @param {string} stream */
  streamName(stream) {
    const [schema, symbol = ""] = stream.split("/");
    const names = /** @type {Record<string, string>} */ ({
      "futures.mbp10": "book",
      "futures.trades": "trades",
      "options.trades": "option trades",
      "options.quotes": "option quotes",
      "options.greeks_snapshots": "option greeks",
      "stocks.trades": "trades",
      "stocks.quotes": "quotes",
    });
    return names[schema] ? `${symbol} ${names[schema]}` : kindName(stream);
  }
}
