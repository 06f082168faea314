// @ts-check
/** One level's score taken apart: components, its last ten minutes, and the rows behind it. */

import { C, fit, hatch, text, theme } from "./look.js";
import { attribute, byId, make, put, sentence } from "./nodes.js";
import { known, price, signed } from "./numbers.js";
import { voidReason } from "./standing.js";
import {
  COMPONENTS,
  aboveBelow,
  barrierAbsent,
  chance,
  confidence,
  evidence,
  facts,
  levelName,
  scoreOf,
  signOf,
  signalText,
  stateWord,
  thresholds,
  whyUnknown,
} from "./words.js";

const MOST_ROWS = 40;
const SPAN_MS = 600_000;
const PAUSE_MS = 1500; // two scores farther apart have nothing between them
const FULL_POINTS = 35; // at the end of a component's bar

class Component {
  /** @param {string} key @param {string} name @param {(key: string) => void} press */
  constructor(key, name, press) {
    this.key = key;
    this.drawn = "";
    this.state = make("span");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.value = make("span", "v");
    this.facts = make("span", "f");
    this.node = make(
      "button",
      "comp",
      make("span", "n", make("b", "", name), " ", this.state),
      this.canvas,
      this.value,
      this.facts,
    );
    this.node.setAttribute("type", "button");
    this.node.addEventListener("click", () => press(key));
  }

  /**
   * @param {import("./model.js").Level} level
   * @param {string} sign
   * @param {import("./model.js").Model} model
   * @param {import("./standing.js").Standing} now
   */
  show(level, sign, model, now) {
    const points = level.points?.[this.key];
    const has = known(points) && sign !== "ny";
    put(this.state, has ? stateWord(level, this.key) : "");
    put(this.value, has ? signed(points) : "—");
    put(this.facts, has ? facts(level, this.key, model.snapMs) : whyUnknown(level, this.key, now));
    attribute(this.node, "aria-pressed", String(model.evidence.component === this.key));
    const drawn = [has ? Math.round(points) : "", now.grey, theme(), this.canvas.clientWidth].join();
    if (drawn !== this.drawn) this.#bar(has ? points : null, now.grey);
    this.drawn = drawn;
  }

  /** @param {number | null} points @param {boolean} grey */
  #bar(points, grey) {
    const [g, w] = fit(this.canvas);
    g.clearRect(0, 0, w, 10);
    g.fillStyle = points === null ? hatch(g, "gap") : C.line;
    g.fillRect(0, 1, w, 8);
    const half = w / 2;
    if (points !== null) {
      const x = Math.max(-half, Math.min(half, (points / FULL_POINTS) * half));
      g.fillStyle = grey ? C.ink3 : x > 0 ? C.brk : C.rej;
      g.fillRect(Math.min(half, half + x), 1, Math.abs(x), 8);
    }
    g.fillStyle = C.ink2;
    g.fillRect(half - 0.5, 0, 1, 10);
  }
}

export class Why {
  /** @param {{component: (key: string | null) => void, copy: (command: string) => Promise<void>}} does */
  constructor(does) {
    this.does = does;
    this.drawn = this.command = "";
    this.big = make("span", "big");
    this.name = make("b");
    this.about = make("span");
    this.signal = make("span", "sig");
    this.head = make("div", "why-h", this.big, make("p", "", this.name, make("br"), this.about), this.signal);
    this.components = COMPONENTS.map(([key, name]) => new Component(key, name, (own) => this.#press(own)));
    this.spark = /** @type {HTMLCanvasElement} */ (document.createElement("canvas"));
    this.spark.className = "spark";
    this.spark.setAttribute("role", "img");
    this.rules = make("p", "note");
    this.rulesText = make("span");
    this.rules.append(this.rulesText, make("b", "", "not a probability"));
    this.chance = make("p", "note");
    this.rowsBody = make("tbody");
    this.table = this.#table();
    this.noRows = make("p", "note");
    this.all = make("a", "link", "All rows behind this score");
    this.copy = make("button", "link", "copy the explain command");
    this.more = this.#more();
    this.none = make("p", "note", "Choose a level to see what its score is made of.");
    this.whole = [
      this.head,
      ...this.components.map((one) => one.node),
      this.spark,
      this.rules,
      this.chance,
      this.table,
      this.noRows,
      this.more,
    ];
    this.body = byId("whybody");
    /** @type {string | null} */
    this.pressed = null;
  }

  #table() {
    const columns = [
      ["time", ""],
      ["what", ""],
      ["price", "num"],
      ["size", "num"],
      ["row", "wide"],
    ];
    const head = columns.map(([name, look]) => {
      const cell = make("th", look, name);
      cell.setAttribute("scope", "col");
      return cell;
    });
    const caption = make("caption", "vh", "The newest rows of this level");
    return make("table", "ev", caption, make("thead", "", make("tr", "", ...head)), this.rowsBody);
  }

  #more() {
    this.all.setAttribute("target", "_blank");
    this.all.setAttribute("rel", "noopener");
    this.copy.setAttribute("type", "button");
    this.copy.addEventListener("click", () =>
      this.does.copy(this.command).then(
        () => this.#copied("copied"),
        () => this.#copied(this.command),
      ),
    );
    return make("p", "note", this.all, " · ", this.copy);
  }

  /** @param {string} said */
  #copied(said) {
    put(this.copy, said);
    setTimeout(() => put(this.copy, "copy the explain command"), 3000);
  }

  /** @param {string} key */
  #press(key) {
    this.pressed = this.pressed === key ? null : key;
    this.does.component(this.pressed);
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  show(model, now) {
    const { level } = model;
    const id = model.chosen.of.level;
    put(byId("whyhead"), level ? `${levelName(level)} ${price(level.price)}` : "");
    if (!level) {
      if (this.body.firstChild !== this.none) this.body.replaceChildren(this.none);
      put(
        this.none,
        id && model.began && model.levels.length
          ? `${id} is not in sight now.`
          : "Choose a level to see what its score is made of.",
      );
      return;
    }
    if (this.body.firstChild !== this.head) this.body.replaceChildren(...this.whole);
    const sign = signOf(level, now);
    this.#top(level, sign, model, now);
    for (const one of this.components) one.show(level, sign, model, now);
    const words = thresholds(model.run.break_at, model.run.reject_at);
    put(this.rulesText, `50 = no evidence · ${words ? `${words} · ` : ""}`);
    sentence(this.chance, chance(level, sign));
    this.#spark(model, now);
    const at = new Date(Math.round(model.snapMs)).toISOString();
    this.command = `spymaster explain ${id} --at ${at}`;
    attribute(this.all, "href", `/api/explain?level=${encodeURIComponent(id)}&at=${Math.round(model.snapMs)}000000`);
  }

  /**
   * @param {import("./model.js").Level} level
   * @param {string} sign
   * @param {import("./model.js").Model} model
   * @param {import("./standing.js").Standing} now
   */
  #top(level, sign, model, now) {
    const score = scoreOf(level, sign);
    put(this.big, score === null ? "—" : String(score));
    put(this.name, `${levelName(level)} ${price(level.price)}`);
    const own = confidence(level, model.approximate(level));
    const reason = level.barrier?.void_reason;
    const away = aboveBelow(level, model.tick);
    let about = `${away} · confidence ${own.word}, ${own.reason}`;
    if (sign === "ny") about = `${away} · not yet: its windows are filling`;
    else if (sign === "vd") {
      const why = voidReason(now.halted ? "halt" : (model.snap?.void_reason ?? reason));
      about = `void: ${why}${now.until && ` until ${now.until}`}`;
    } else if (score === null && reason) about = `${away} · ${barrierAbsent(reason)}`;
    put(this.about, about);
    const look = `sig ${sign === "ny" ? "vd" : sign}`;
    if (this.signal.className !== look) this.signal.className = look;
    put(this.signal, signalText(level, sign));
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  #spark(model, now) {
    const { newest, level: of, count } = model.scores;
    const drawn = [newest, of, count, now.name, theme(), this.spark.clientWidth].join();
    if (drawn === this.drawn || !this.spark.clientWidth) return;
    this.drawn = drawn;
    const [g, w, h] = fit(this.spark);
    const wide = w - 30;
    const y = (/** @type {number} */ score) => h - 3 - (score / 100) * (h - 6);
    const to = model.snapMs;
    const x = (/** @type {number} */ t) => ((t - (to - SPAN_MS)) / SPAN_MS) * wide;
    g.clearRect(0, 0, w, h);
    this.#scale(g, w, wide, y, [model.run.reject_at ?? 35, 50, model.run.break_at ?? 65]);
    const spans = this.#course(g, model.scores, x, y, now.grey ? C.ink3 : C.ink1);
    g.fillStyle = hatch(g, now.halted ? "halt" : "gap");
    for (const [from, until] of spans)
      g.fillRect(Math.max(0, x(from)), 0, Math.max(1, Math.min(wide, x(until)) - Math.max(0, x(from))), h);
    text(g, "score, 10 min", 2, 7, { halo: true, size: 10 });
    const level = model.level;
    attribute(
      this.spark,
      "aria-label",
      `Score in the last 10 minutes${level && known(level.score) ? `, now ${Math.round(level.score)}` : ""}`,
    );
  }

  /**
   * @param {CanvasRenderingContext2D} g
   * @param {number} w
   * @param {number} wide
   * @param {(score: number) => number} y
   * @param {number[]} marks
   */
  #scale(g, w, wide, y, marks) {
    g.strokeStyle = C.line;
    g.lineWidth = 1;
    for (const mark of marks) {
      g.setLineDash(mark === 50 ? [] : [2, 3]);
      g.beginPath();
      g.moveTo(0, Math.round(y(mark)) + 0.5);
      g.lineTo(wide, Math.round(y(mark)) + 0.5);
      g.stroke();
      if (mark !== 50 || marks.every((one) => one === 50 || Math.abs(y(one) - y(50)) >= 10))
        text(g, String(Math.round(mark)), w, y(mark), { align: "right", size: 10 });
    }
    g.setLineDash([]);
  }

  /**
   * Draws the scores; returns the spans that have none.
   * @param {CanvasRenderingContext2D} g
   * @param {import("./rings.js").Scores} scores
   * @param {(t: number) => number} x
   * @param {(score: number) => number} y
   * @param {string} colour
   */
  #course(g, scores, x, y, colour) {
    /** @type {[number, number][]} */
    const spans = [];
    let [before, pen] = [NaN, false];
    g.strokeStyle = colour;
    g.lineWidth = 1.3;
    g.beginPath();
    scores.forEach((t, score) => {
      if (Number.isNaN(score)) {
        const last = spans.at(-1);
        if (last && last[1] >= before) last[1] = t;
        else spans.push([before || t, t]);
        pen = false;
      } else {
        pen && t - before < PAUSE_MS ? g.lineTo(x(t), y(score)) : g.moveTo(x(t), y(score));
        pen = true;
      }
      before = t;
    });
    g.stroke();
    return spans;
  }

  /**
   * The newest prints and book changes.
   * @param {any[]} rows
   * @param {import("./model.js").Model} model
   * @param {string} error
   */
  rows(rows, model, error = "") {
    const shown = rows.slice(0, MOST_ROWS);
    const body = this.rowsBody;
    while (body.childElementCount > shown.length) body.lastElementChild?.remove();
    shown.forEach((row, i) => {
      if (!body.children[i])
        body.append(
          make(
            "tr",
            "",
            make("td", "mono"),
            make("td"),
            make("td", "num"),
            make("td", "num"),
            make("td", "wide mono muted"),
          ),
        );
      const cells = body.children[i].children;
      put(cells[0], model.zone.time(row.ts_event_ns / 1e6, 3));
      const { what, at, size, id } = evidence(row);
      put(cells[1], what);
      put(cells[2], at);
      put(cells[3], size);
      put(cells[4], id);
    });
    put(this.noRows, error || (shown.length ? "" : "No row of the last minute lies in its zone."));
    model.evidence.marks =
      this.pressed && this.pressed !== "fuel"
        ? shown.filter((row) => known(row.price)).map((row) => ({ t: row.ts_event_ns / 1e6, price: row.price }))
        : [];
  }
}
