// @ts-check
/** Dealer gamma by strike, three ways, each on its own scale: left is short and amplifies, right is long and damps. */

import { C, fit, mix, text, theme } from "./look.js";
import { byId, make, put, sentence } from "./nodes.js";
import { count, known, price, share, signed } from "./numbers.js";

const SHOWN = 13;
const TOP = 32;
const LEFT = 46;
const RIGHT = 76;
const COLUMNS = /** @type {const} */ ([
  ["open interest", "open_interest"],
  ["volume", "volume"],
  ["flow, 60 s", "flow"],
]);

/** A round number that holds it. @param {number} most */
function scale(most) {
  if (!(most > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((one) => one * unit).find((one) => one >= most) ?? most;
}

export class Gamma {
  constructor() {
    this.drawn = "";
    this.canvas = /** @type {HTMLCanvasElement} */ (byId("gammac"));
    this.text = byId("gammatext");
    this.sums = COLUMNS.map(([name]) => {
      const figure = make("b");
      this.text.append(
        make("span", "", `${name === "open interest" ? "net by open interest" : name.replace(",", "")} `, figure),
      );
      return figure;
    });
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  show(model, now) {
    if (!this.text.offsetParent) return;
    const { gamma } = model.doc;
    /** @type {any[]} */
    const strikes = gamma?.strikes ?? [];
    COLUMNS.forEach(([, key], i) =>
      put(this.sums[i], strikes.length ? signed(strikes.reduce((sum, one) => sum + (one[key] ?? 0), 0)) : "—"),
    );
    this.canvas.hidden = !strikes.length;
    sentence(byId("gammanote"), this.#note(gamma, strikes));
    if (!strikes.length) return;
    const { clientWidth, clientHeight } = this.canvas;
    const drawn = [gamma.ts_event_ns, model.price, now.grey, theme(), clientWidth, clientHeight].join();
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.#draw(gamma, this.#near(strikes, model.mid), model, now);
  }

  /** @param {any[]} strikes @param {number | null} mid the highest first */
  #near(strikes, mid) {
    const own = mid ?? strikes[strikes.length >> 1].strike;
    const nearest = [...strikes].sort((a, b) => Math.abs(a.strike - own) - Math.abs(b.strike - own)).slice(0, SHOWN);
    return nearest.sort((a, b) => b.strike - a.strike);
  }

  /** @param {any} gamma @param {any[]} strikes @returns {import("./words.js").Part[]} */
  #note(gamma, strikes) {
    if (!strikes.length) return [{ t: "No strike is valued yet: dealer gamma needs option prints or open interest." }];
    const of = gamma.shares ?? {};
    const how = of.aggressor ?? {};
    const guessed = (how.quote ?? 0) + (how.iv ?? 0) + (how.tick ?? 0);
    const said = [
      { t: "ES contracts dealers must trade per point. ".replace("ES", gamma.profile ?? "ES") },
      { t: "Left of the line", b: true },
      { t: ": short gamma, moves are amplified; " },
      { t: "right", b: true },
      { t: ": long, moves are damped." },
    ];
    if (of.prints)
      said.push({
        t:
          ` Sides of ${share(guessed / of.prints)} of ${count(of.prints)} option prints are inferred, ` +
          `of ${share((how.unknown ?? 0) / of.prints)} unknown.`,
      });
    if (of.open_interest && of.open_interest_valued < of.open_interest)
      said.push({ t: ` ${share(of.open_interest_valued / of.open_interest)} of open interest is valued.` });
    return said;
  }

  /**
   * @param {any} gamma
   * @param {any[]} rows
   * @param {import("./model.js").Model} model
   * @param {import("./standing.js").Standing} now
   */
  #draw(gamma, rows, model, now) {
    const [g, w, h] = fit(this.canvas);
    const tall = (h - TOP) / rows.length;
    const wide = (w - LEFT - RIGHT) / 3;
    g.clearRect(0, 0, w, h);
    COLUMNS.forEach(([name, key], k) => {
      const middle = LEFT + k * wide + wide / 2;
      const most = scale(Math.max(...rows.map((row) => Math.abs(row[key] ?? 0))));
      text(g, name, middle, 8, { align: "center", fill: C.ink2 });
      text(g, `±${most < 1 ? most.toPrecision(1) : count(most)}`, middle, 21, { align: "center", size: 10 });
      g.fillStyle = C.edge;
      g.fillRect(Math.round(middle), TOP, 1, h - TOP);
      rows.forEach((row, i) => {
        const long = ((row[key] ?? 0) / most) * (wide / 2 - 6);
        g.fillStyle = now.grey ? C.edge : long >= 0 ? mix(C.s1, C.rej, 0.75) : mix(C.s1, C.brk, 0.85);
        g.fillRect(long >= 0 ? middle + 1 : middle + long, TOP + i * tall + 3, Math.abs(long), tall - 6);
      });
    });
    this.#words(g, gamma, rows, w, tall, model);
  }

  /**
   * @param {CanvasRenderingContext2D} g
   * @param {any} gamma
   * @param {any[]} rows
   * @param {number} w
   * @param {number} tall
   * @param {import("./model.js").Model} model
   */
  #words(g, gamma, rows, w, tall, model) {
    const walls = [
      [gamma.call_wall, "call wall"],
      [gamma.put_wall, "put wall"],
    ].filter(([at]) => known(at));
    /** @type {number[]} */
    const taken = [];
    rows.forEach((row, i) => {
      const y = TOP + i * tall + tall / 2;
      const own = walls.filter(([at]) => at === row.strike).map(([, name]) => name);
      text(g, count(row.strike), LEFT - 6, y, {
        align: "right",
        fill: own.length ? C.ink1 : C.ink2,
        bold: own.length > 0,
      });
      if (!own.length) return;
      text(g, own.length > 1 ? "both walls" : own[0], w, y, { align: "right", fill: C.ink1 });
      taken.push(y);
    });
    const y = (/** @type {number} */ at) => {
      const below = rows.findIndex((row) => row.strike <= at);
      if (below <= 0) return at === rows[0].strike ? TOP + tall / 2 : NaN;
      const [up, down] = [rows[below - 1], rows[below]];
      return TOP + (below - (at - down.strike) / (up.strike - down.strike)) * tall + tall / 2;
    };
    const line = (
      /** @type {number | null} */ at,
      /** @type {string} */ said,
      /** @type {string} */ colour,
      /** @type {number[]} */ dash,
    ) => {
      if (!known(at) || !Number.isFinite(y(at))) return;
      const own = Math.round(y(at)) + 0.5;
      g.strokeStyle = colour;
      g.lineWidth = 1;
      g.setLineDash(dash);
      g.beginPath();
      g.moveTo(LEFT, own);
      g.lineTo(w - RIGHT + 2, own);
      g.stroke();
      g.setLineDash([]);
      const free =
        [0, 12, -12, 24, -24]
          .map((away) => own + away)
          .find((to) => taken.every((other) => Math.abs(other - to) >= 11)) ?? own;
      taken.push(free);
      text(g, said, w, free, { align: "right", fill: colour });
    };
    line(model.price, price(model.price), C.ink1, []);
    line(gamma.gamma_flip, `flip ${price(gamma.gamma_flip)}`, C.ink2, [3, 3]);
  }
}
