// @ts-check
/** Alerts, newest first: one line each. Signals and data in one list, because the second explains the first. */

import { flipped, icon } from "./look.js";
import { arrange, byId, make, put } from "./nodes.js";

const KEPT = 200;

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
    this.began = false;
    this.bell = icon("bell");
    byId("b-alerts").prepend(this.bell);
    this.unread = make("span", "vh");
    byId("b-alerts").append(this.unread);
  }

  /** Take what a frame has, seen or not. @param {import("./model.js").Model} model */
  take(model) {
    /** @type {Alert[]} */
    const alerts = model.doc.alerts ?? [];
    const fresh = alerts.filter((alert) => !this.rows.has(alert.alert_id));
    for (const alert of fresh.reverse()) {
      const [glyph, flip, colour] = look(alert);
      const sign = icon(glyph, flip);
      const time = make("span", "t");
      const [first, ...rest] = alert.text.split(/(?=[,:;] )/);
      const text = make("span", "", make("b", "", first), rest.join(""));
      this.rows.set(alert.alert_id, { alert, time, node: make("div", "al", make("span", colour, sign), time, text) });
      if (this.began) this.heard(alert);
    }
    for (const id of [...this.rows.keys()].slice(0, Math.max(0, this.rows.size - KEPT))) this.rows.delete(id);
    this.began ||= model.began;
  }

  /** @param {import("./model.js").Model} model @param {boolean} seen whether the list is on the screen */
  show(model, seen) {
    const newest = [...this.rows.values()].sort((a, b) => timeOf(b.alert) - timeOf(a.alert));
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
