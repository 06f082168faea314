// @ts-check
/** Level lines with their tags, and the marks of what *why* shows. */

import { xOf, yOf } from "./axes.js";
import { C, drawGlyph, flipped, tag } from "./look.js";
import { goesUp, levelName, scoreOf, signOf } from "./words.js";

const DASHES = /** @type {Record<string, number[]>} */ ({ brk: [], rej: [9, 3], con: [3, 3] });
const DOTS = [1, 4];

/** @param {CanvasRenderingContext2D} g @param {import("./axes.js").View} v @param {import("./axes.js").Geometry} of
 * @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
export function levelLines(g, v, of, model, now) {
  /** @type {{y: number, right: number}[]} */
  const put = [];
  for (const [id, level] of model.levels) {
    const y = Math.round(yOf(v, of, level.price)) + 0.5;
    if (y < 2 || y > of.height - 2) continue;
    const sign = signOf(level, now);
    const chosen = id === model.chosen.of.level;
    line(
      g,
      y,
      of.width,
      now.grey ? C.ink3 : (C[sign] ?? (sign === "con" ? C.ink1 : C.ink3)),
      chosen ? 1.8 : 1,
      DASHES[sign] ?? DOTS,
    );
    if (y < 9 || y > of.height - 9) continue;
    const left = put.filter((one) => Math.abs(one.y - y) < 17).reduce((x, one) => Math.max(x, one.right + 6), 8);
    put.push({ y, right: left + plate(g, level, sign, left, y, chosen, now.grey) });
  }
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {number} y
 * @param {number} width
 * @param {string} colour
 * @param {number} weight
 * @param {number[]} dash
 */
function line(g, y, width, colour, weight, dash) {
  const stroke = () => {
    g.beginPath();
    g.moveTo(0, y);
    g.lineTo(width, y);
    g.stroke();
  };
  g.strokeStyle = C.halo;
  g.lineWidth = 3;
  g.globalAlpha = 0.55;
  stroke();
  g.globalAlpha = 1;
  g.strokeStyle = colour;
  g.lineWidth = weight;
  g.setLineDash(dash);
  stroke();
  g.setLineDash([]);
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {import("./model.js").Level} level
 * @param {string} sign
 * @param {number} x
 * @param {number} y
 * @param {boolean} chosen
 * @param {boolean} grey
 */
function plate(g, level, sign, x, y, chosen, grey) {
  const score = scoreOf(level, sign);
  const name = `${sign === "neu" ? "" : "     "}${levelName(level)}${score === null ? "" : `  ${score}`}`;
  const filled = sign === "brk" && !grey;
  const fill = grey ? C.ink3 : sign === "brk" ? C.on : sign === "rej" ? C.rej : C.ink1;
  const edge = filled ? null : sign === "rej" && !grey ? C.rej : C.edge;
  const width = tag(g, name, x, y, { bg: filled ? C.brk : C.s1, edge, fill, bold: chosen });
  if (sign !== "neu") drawGlyph(g, sign, x + 11.5, y, flipped(sign, goesUp(level, sign)), fill, 11);
  return width;
}

/**
 * The level whose line is nearest, within `most` pixels.
 * @param {import("./axes.js").View} v
 * @param {import("./axes.js").Geometry} of
 * @param {import("./model.js").Model} model
 * @param {number} y
 * @param {number} most
 */
export function levelAt(v, of, model, y, most = 6) {
  let [found, least] = ["", most];
  for (const [id, level] of model.levels) {
    const away = Math.abs(yOf(v, of, level.price) - y);
    if (away <= least) [found, least] = [id, away];
  }
  return found;
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {import("./axes.js").View} v
 * @param {import("./axes.js").Geometry} of
 * @param {{t: number, price: number}[]} marks
 */
export function squares(g, v, of, marks) {
  g.strokeStyle = C.ink1;
  g.lineWidth = 1.5;
  for (const mark of marks) g.strokeRect(xOf(v, of, mark.t) - 4, yOf(v, of, mark.price) - 4, 8, 8);
}
