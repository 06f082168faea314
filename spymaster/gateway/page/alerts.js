// @ts-check
/** Alerts, newest first: one line each. Signals and data in one list, because the second explains the first. */

import { flipped, icon } from "./look.js";
import { arrange, byId, make, put } from "./nodes.js";
import { ask } from "./wire.js";

const KEPT = 300;
const LEAST_FOR_EARLIER = 20; // fewer than the daemon keeps at hand are all that there are

/**
 * @typedef {{alert_id: string, ts_event_ns: number, at_ns?: number, kind: string, state: string, subject: string,
 *   text: string, signal?: string | null, level_price?: number | null}} Alert
 */

const GLYPH = /** @type {Record<string, string>} */ ({
  void: "vd",
  gap: "warn",
  silent: "warn",
  disk: "warn",
  lag: "warn",
  roll: "ok",
  judge: "bad",
  gold: "bad",
  halt: "halt",
});

/** @param {Alert} alert @returns {[string, boolean, string]} glyph, whether it stands upside down, colour's class */
function look(alert) {
  if (alert.kind === "signal" && alert.state !== "cleared") {
    const sign = { BREAK: "brk", REJECT: "rej", CONTESTED: "con" }[alert.signal ?? ""] ?? "ok";
    return [sign, flipped(sign, alert.text.includes("↑")), sign === "brk" || sign === "rej" ? `t-${sign}` : "ink2"];
  }
  if (alert.state === "cleared") return ["ok", false, "muted"];
  const glyph = GLYPH[alert.kind] ?? "ok";
  return [glyph, false, glyph === "bad" ? "t-bad" : glyph === "warn" || glyph === "halt" ? "t-warn" : "muted"];
}

export class Alerts {
  /** @param {(alert: Alert) => void} heard called with each alert that is new to this page */
  constructor(heard) {
    this.heard = heard;
    /** @type {Map<string, {node: Node, alert: Alert, time: HTMLElement}>} */
    this.rows = new Map();
    this.box = byId("alertrows");
    this.none = make("p", "note", "No alert yet.");
    this.began = this.ended = false;
    this.bell = icon("bell");
    byId("b-alerts").prepend(this.bell);
    this.unread = make("span", "vh");
    byId("b-alerts").append(this.unread);
  }

  /** Take what a frame has, seen or not. @param {import("./model.js").Model} model */
  take(model) {
    /** @type {Alert[]} */
    const alerts = model.doc.alerts ?? [];
    for (const alert of this.#add(alerts)) if (this.began) this.heard(alert);
    this.began ||= model.began;
  }

  /** Keep those that are new, and return them, oldest first. @param {Alert[]} alerts */
  #add(alerts) {
    const fresh = alerts.filter((alert) => !this.rows.has(alert.alert_id)).reverse();
    for (const alert of fresh) {
      const [glyph, flip, colour] = look(alert);
      const sign = icon(glyph, flip);
      const time = make("span", "t");
      const [first, ...rest] = alert.text.split(/(?=[,:;] )/);
      const text = make("span", "", make("b", "", first), rest.join(""));
      this.rows.set(alert.alert_id, { alert, time, node: make("div", "al", make("span", colour, sign), time, text) });
    }
    const oldest = this.#sorted().slice(KEPT);
    for (const { alert } of oldest) this.rows.delete(alert.alert_id);
    return fresh;
  }

  #sorted() {
    return [...this.rows.values()].sort((a, b) => timeOf(b.alert) - timeOf(a.alert));
  }

  /** Ask for those recorded before the oldest at hand. */
  async earlier() {
    const oldest = this.#sorted().at(-1);
    if (!oldest) return;
    const before = Math.floor((oldest.alert.at_ns ?? oldest.alert.ts_event_ns) / 1e6);
    const found = await ask("/api/alerts", { before_ns: `${before}000000` }).catch(() => ({ alerts: [] }));
    const fresh = this.#add(found.alerts ?? []);
    this.ended = !fresh.length || this.rows.size >= KEPT;
  }

  /** @param {import("./model.js").Model} model @param {boolean} seen whether the list is on the screen */
  show(model, seen) {
    const newest = this.#sorted();
    byId("b-older").hidden = this.ended || newest.length < LEAST_FOR_EARLIER;
    if (seen && newest.length && timeOf(newest[0].alert) > model.chosen.of.seen)
      model.chosen.set({ seen: timeOf(newest[0].alert) });
    const unread = newest.filter((row) => timeOf(row.alert) > model.chosen.of.seen).length;
    put(byId("b-n"), unread ? String(unread) : "");
    put(this.unread, unread ? " unread" : "");
    for (const row of newest) put(row.time, model.zone.time(timeOf(row.alert)));
    arrange(this.box, newest.length ? newest.map((row) => row.node) : [this.none]);
  }
}

/** @param {Alert} alert */
const timeOf = (alert) => Math.round(alert.ts_event_ns / 1e6);

/** @param {Alert} alert */
export const toneOf = (alert) =>
  alert.kind === "signal"
    ? ({ BREAK: "brk", REJECT: "rej" }[alert.signal ?? ""] ?? "")
    : alert.state === "cleared"
      ? ""
      : "data";
