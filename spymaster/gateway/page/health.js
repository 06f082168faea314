// @ts-check
/** The strip at the foot: grey where all is fine, amber or red only where somebody must act. */

import { icon, setIcon } from "./look.js";
import { arrange, byId, make, put } from "./nodes.js";
import { NONE, count, known, ms, size, span } from "./numbers.js";
import { lagOf } from "./standing.js";

/** @typedef {[string, string, string, string?, string?]} Item key, label, figure, glyph, tone */
const SMALL = new Set(["feeds", "lag", "gaps", "daemon"]); // on a phone

class Figure {
  /** @param {string} key @param {() => void} press */
  constructor(key, press) {
    this.glyph = icon("ok");
    this.label = make("span");
    this.figure = make("b");
    this.more = make("span");
    this.node = make("button", SMALL.has(key) ? "" : "m0", this.glyph, this.label, this.figure, this.more);
    this.node.setAttribute("type", "button");
    this.node.addEventListener("click", press);
    this.small = SMALL.has(key) ? "" : "m0";
  }

  /** @param {Item} item @param {string} more */
  show([, label, figure, glyph = "ok", tone = ""], more) {
    setIcon(this.glyph, glyph);
    put(this.label, label);
    put(this.figure, figure);
    put(this.more, more);
    const look = `${tone} ${this.small}`.trim();
    if (this.node.className !== look) this.node.className = look;
  }
}

export class Health {
  /** @param {() => void} press */
  constructor(press) {
    this.press = press;
    /** @type {Map<string, Figure>} */
    this.figures = new Map();
    this.grow = make("span", "grow");
    this.own = make("b");
    this.page = make("button", "m0", make("span", "", "page"), this.own);
    this.page.setAttribute("type", "button");
    this.page.title = "What this page costs: the newest drawing, and what the stream brings";
    this.page.addEventListener("click", press);
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  show(model, now) {
    const items = now.name === "wait" ? [] : now.name === "down" ? this.#down(model) : this.#up(model, now);
    const nodes = items.map(([item, more]) => {
      let own = this.figures.get(item[0]);
      if (!own) this.figures.set(item[0], (own = new Figure(item[0], this.press)));
      own.show(item, more);
      return own.node;
    });
    arrange(byId("health"), [...nodes, this.grow, this.page]);
  }

  /** @param {string} cost */
  cost(cost) {
    put(this.own, cost);
  }

  /** What the page itself knows, and no more. @param {import("./model.js").Model} model @returns {[Item, string][]} */
  #down(model) {
    const since = model.began ? `no answer since ${model.zone.time(model.atMs)}` : "no answer";
    const durable = ms(model.health.durable_to_ns);
    /** @type {[Item, string][]} */
    const said = [[["daemon", "Daemon", since, "bad", "bad"], ""]];
    if (known(durable)) said.push([["heard", "Last durable heard", model.zone.time(durable, 3), "stale"], ""]);
    said.push([["next", "Next try", "in 1 s", "stale"], ""]);
    return said;
  }

  /**
   * @param {import("./model.js").Model} model
   * @param {import("./standing.js").Standing} now
   * @returns {[Item, string][]}
   */
  #up(model, now) {
    const of = model.health;
    const { up, of: all } = model.desk.feeds ?? {};
    const short = known(up) && known(all) && up < all;
    const stale = now.name === "stale";
    const book = Object.entries(model.doc.streams ?? {}).find(([name]) => name.startsWith("futures.mbp10/"))?.[1];
    const gaps = of.open_gaps ?? 0;
    const disk =
      of.disk_level && of.disk_level !== "ok" ? (/full|halt|stop|crit/.test(of.disk_level) ? "bad" : "warn") : "";
    const days = known(of.disk_days)
      ? `, ${of.disk_days >= 1 ? `${count(of.disk_days)} days` : span(of.disk_days * 86400000)}`
      : "";
    const troubled = (of.problems ?? []).length;
    const p99 = !stale && known(book?.lag_p99_ms) ? `p99 ${lagOf(book.lag_p99_ms)}` : "";
    const lag = !stale && known(book?.lag_ms) ? lagOf(book.lag_ms) : NONE;
    const feeds = short || stale ? "warn" : "";
    /** @type {[Item, string][]} */
    const said = [
      [["feeds", "Feeds", known(all) ? `${up} of ${all}` : NONE, feeds || "ok", feeds], ""],
      [["lag", "Event lag", lag, stale ? "stale" : "ok"], p99],
      [["risk", "Rows at risk", count(of.rows_at_risk)], ""],
      [["durable", "Durable to", model.zone.time(ms(of.durable_to_ns), 3)], ""],
      [["gaps", "Open gaps", count(gaps), gaps ? "gap" : "ok", now.name === "gap" ? "warn" : ""], ""],
      [["gold", "Gold", known(of.gold_age_s) ? `${span(of.gold_age_s * 1000)} ago` : NONE], ""],
      [["disk", "Disk", `${size(of.disk_free_bytes)}${days || " free"}`, disk ? "warn" : "ok", disk], ""],
    ];
    if (now.name === "empty") return said.filter(([[key]]) => key === "feeds" || key === "disk");
    if (troubled) said.push([["problems", "Problems", count(troubled), "warn", "warn"], ""]);
    return said;
  }
}
