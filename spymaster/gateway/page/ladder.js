// @ts-check
/** Levels around the price, one row each, sorted by price and by nothing else. */

import { flipped, icon, setIcon } from "./look.js";
import { arrange, attribute, byId, make, put, sentence } from "./nodes.js";
import { known, price, signedPoints } from "./numbers.js";
import {
  ALL_KINDS,
  NO_LEVELS,
  confidence,
  distance,
  goesUp,
  heldText,
  kindName,
  levelName,
  scoreOf,
  signOf,
  signalText,
  underName,
  waitingKinds,
} from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const CHANGED_MS = 3000; // a changed signal has an outline so long

/** @param {string} name @param {Record<string, string | number>} given */
function shape(name, given) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(given)) node.setAttribute(key, String(value));
  return node;
}

/** From the middle: to the right speaks for a break. */
class ScoreBar {
  constructor() {
    this.key = "";
    this.node = shape("svg", {
      class: "bar",
      viewBox: "0 0 66 10",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.back = shape("rect", { x: 0, y: 1, width: 66, height: 8, class: "bar-back" });
    this.fill = shape("rect", { x: 33, y: 1, width: 0, height: 8 });
    this.notches = shape("path", { class: "bar-notch", d: "" });
    this.node.append(this.back, this.fill, shape("path", { class: "bar-mid", d: "M33 0v10" }), this.notches);
  }

  /**
   * @param {number | null} score
   * @param {string} word of the confidence
   * @param {boolean} hatched
   * @param {number} high
   * @param {number} low
   */
  show(score, word, hatched, high, low) {
    const key = `${score} ${word} ${hatched} ${high} ${low}`;
    if (key === this.key) return;
    this.key = key;
    attribute(this.back, "class", hatched ? null : "bar-back");
    attribute(this.back, "fill", hatched ? "url(#hatch)" : null);
    const [top, bottom] = [0.66 * high, 0.66 * low];
    this.notches.setAttribute("d", hatched ? "" : `M${bottom} 0v2M${top} 0v2M${bottom} 8v2M${top} 8v2`);
    const wide = score === null ? 0 : ((score - 50) / 50) * 33;
    const [y, tall] = word === "HIGH" ? [1, 8] : word === "MEDIUM" ? [3, 4] : [2.5, 5];
    const outlined = word === "LOW";
    const length = Math.abs(wide);
    this.fill.setAttribute("x", String(Math.min(33, 33 + wide) + (outlined ? 0.5 : 0)));
    this.fill.setAttribute("width", String(length < 0.6 ? 0 : Math.max(0, length - (outlined ? 1 : 0))));
    this.fill.setAttribute("y", String(y));
    this.fill.setAttribute("height", String(tall));
    this.fill.setAttribute("class", `bar-${wide >= 0 ? "brk" : "rej"}${outlined ? " bar-low" : ""}`);
  }
}

class Row {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.glyph = icon("");
    this.about = make("span", "ap");
    this.price = make("span");
    this.name = make("span");
    this.also = make("i");
    this.bar = new ScoreBar();
    this.score = make("span");
    this.signal = make("span", "sig");
    this.away = make("em");
    this.under = make("span");
    this.held = make("span", "held");
    this.kind = make("span", "k", this.name, this.also);
    this.node = make(
      "div",
      "row",
      this.glyph,
      make("span", "p num", this.about, this.price),
      this.kind,
      this.bar.node,
      make("span", "sc", make("span", "vh", "score "), this.score),
      this.signal,
      make("span", "sub", this.away, this.under),
      this.held,
    );
    this.node.setAttribute("role", "option");
    this.node.id = `r-${id}`;
    this.node.dataset.id = id;
    this.sign = "";
    this.changedAt = -Infinity;
  }

  /**
   * @param {import("./model.js").Level} level
   * @param {import("./model.js").Model} model
   * @param {import("./standing.js").Standing} now
   */
  show(level, model, now) {
    const sign = signOf(level, now);
    const up = goesUp(level, sign);
    const about = model.approximate(level);
    const score = scoreOf(level, sign);
    if (this.sign && sign !== this.sign) this.changedAt = performance.now();
    this.sign = sign;
    setIcon(this.glyph, sign === "neu" ? "" : sign, flipped(sign, up));
    put(this.about, about ? "≈" : "");
    put(this.price, price(level.price));
    put(this.name, levelName(level));
    const also = (level.kinds ?? []).slice(1);
    put(this.also, also.length ? ` +${also.length}` : "");
    attribute(this.kind, "title", [level.kinds?.[0] ?? "", ...also].map(kindName).join(" · "));
    this.bar.show(
      score,
      confidence(level, about).word,
      sign === "vd" || sign === "ny",
      model.run.break_at ?? 65,
      model.run.reject_at ?? 35,
    );
    put(this.score, score === null ? "—" : String(score));
    const look = `sig ${sign === "ny" ? "vd" : sign}`;
    if (this.signal.className !== look) this.signal.className = look;
    put(this.signal, signalText(level, sign));
    put(this.away, signedPoints(distance(level, model.tick)));
    put(this.under, underName(level, sign, about, now));
    sentence(this.held, heldText(model.held(level)));
    attribute(this.node, "aria-selected", String(this.id === model.chosen.of.level));
    this.node.classList.toggle("changed", performance.now() - this.changedAt < CHANGED_MS);
  }
}

export class Ladder {
  /** @param {(id: string) => void} choose */
  constructor(choose) {
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    this.box = byId("rows");
    this.here = make("div", "here");
    this.here.setAttribute("role", "presentation");
    this.price = make("b");
    this.bid = make("span");
    this.ask = make("span");
    this.asOf = make("span", "asof t-warn");
    this.here.append(this.price, this.bid, this.ask, this.asOf);
    this.placed = "";
    this.box.addEventListener("click", (event) => {
      const row = /** @type {HTMLElement} */ (event.target).closest(".row");
      if (row instanceof HTMLElement) choose(row.dataset.id ?? "");
    });
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  show(model, now) {
    const none = now.name === "empty" || now.name === "wait";
    const levels = none ? [] : model.levels;
    /** @type {Node[]} */
    const order = [];
    let below = false;
    for (const [id, level] of levels) {
      if (!below && level.distance_ticks < 0) order.push(this.here);
      below ||= level.distance_ticks < 0;
      let row = this.rows.get(id);
      if (!row) this.rows.set(id, (row = new Row(id)));
      row.show(level, model, now);
      order.push(row.node);
    }
    if (levels.length && !below) order.push(this.here);
    for (const id of this.rows.keys()) if (!model.snap?.levels?.[id]) this.rows.delete(id);
    this.#here(model);
    arrange(this.box, order);
    this.#about(model, now, levels.length);
    this.#place(model, levels);
  }

  /** @param {import("./model.js").Model} model */
  #here(model) {
    const { snap } = model;
    put(this.price, price(model.price));
    put(this.bid, known(snap?.bid) ? `bid ${price(snap.bid)}` : "");
    put(this.ask, known(snap?.ask) ? `ask ${price(snap.ask)}` : "");
    put(this.asOf, `as of ${model.zone.time(model.snapMs)}`);
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now @param {number} count */
  #about(model, now, count) {
    const far = model.levels.reduce((most, [, level]) => Math.max(most, Math.abs(distance(level, model.tick))), 0);
    put(
      byId("lcount"),
      count ? (now.name === "first" ? `${count} so far` : `${count} within ${Math.ceil(far)} points`) : "",
    );
    const seen = new Set(model.levels.flatMap(([, level]) => level.kinds ?? []));
    const missing = now.name === "first" ? ALL_KINDS.filter((kind) => !seen.has(kind) && kind !== "USER_HOTZONE") : [];
    put(byId("rownote"), now.name === "empty" ? NO_LEVELS : waitingKinds(missing));
    const chosen = count && model.snap?.levels?.[model.chosen.of.level] ? `r-${model.chosen.of.level}` : null;
    attribute(this.box, "aria-activedescendant", chosen);
    attribute(this.box, "role", count ? "listbox" : null);
    attribute(this.box, "aria-label", count ? "Levels around the price" : null);
    attribute(this.box, "tabindex", count ? "0" : null);
  }

  /**
   * The price's row stands in the middle once, and again when the price moved past a level.
   * @param {import("./model.js").Model} model
   * @param {[string, any][]} levels
   */
  #place(model, levels) {
    const above = levels.filter(([, level]) => level.distance_ticks >= 0).length;
    const key = `${above} ${levels.length} ${this.box.clientHeight}`;
    if (key === this.placed || !this.box.clientHeight || this.box.matches(":hover")) return;
    this.placed = key;
    this.center();
  }

  center() {
    const half = this.box.clientHeight * 0.52;
    const [rows, at] = [/** @type {HTMLElement[]} */ ([...this.box.children]), this.here.offsetTop];
    const top = rows.find((row) => at - row.offsetTop < half) ?? this.here;
    this.box.scrollTop = top.offsetTop - this.box.offsetTop;
  }

  /** @param {string} id */
  reveal(id) {
    this.rows.get(id)?.node.scrollIntoView({ block: "nearest" });
  }
}
