// @ts-check
/** Theme, colours and glyphs, for nodes and for canvases alike. */

const SVG = "http://www.w3.org/2000/svg";
const GLYPHS = /** @type {Record<string, string>} */ ({
  brk: "M1.5 7.5h3M9.5 7.5h3M7 13V1.5M3.6 4.8 7 1.4l3.4 3.4",
  rej: "M1.5 1.5h11M3.5 13V7a2.8 2.8 0 0 1 5.6 0v4.6M6.4 9.2l2.7 2.7 2.7-2.7",
  con: "M1.5 7h11M7 1v3.6M5 3.1l2 1.9 2-1.9M7 13V9.4M5 10.9 7 9l2 1.9",
  vd: "M2 2h10v10H2zM2 7l5-5M2 12 12 2M7 12l5-5",
  ny: "M2 2h10v10H2zM2 7l5-5M2 12 12 2M7 12l5-5",
  ok: "m2.5 7.5 3 3 6-7",
  warn: "M7 1.8 13 12.2H1zM7 5.6v3M7 10.4v.1",
  bad: "m3 3 8 8M11 3l-8 8",
  live: "M3.4 7a3.6 3.6 0 1 1 7.2 0 3.6 3.6 0 1 1-7.2 0z",
  stale: "M2 7a5 5 0 1 1 10 0 5 5 0 1 1-10 0zM7 4.2V7l2 1.4",
  halt: "M4.5 2.5v9M9.5 2.5v9",
  bell: "M2.5 10.5h9L10.4 9V6A3.4 3.4 0 0 0 3.6 6v3zM6 12.6h2",
  gap: "M1.5 7h3M9.5 7h3M5.2 10l1.4-6M7.4 10l1.4-6",
});

/** @param {string} name @param {boolean} flip upside down */
export function icon(name, flip = false) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 14 14");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "i");
  svg.append(path);
  setIcon(svg, name, flip);
  return svg;
}

/** @param {Element} svg @param {string} name @param {boolean} flip */
export function setIcon(svg, name, flip = false) {
  const key = name + flip;
  if (svg.getAttribute("data-g") === key) return;
  svg.setAttribute("data-g", key);
  svg.setAttribute("class", `i i-${name || "none"}${flip ? " flip" : ""}`);
  svg.firstElementChild?.setAttribute("d", GLYPHS[name] ?? "");
}

/** A reject's glyph turns back from the line as seen from below. @param {string} sign @param {boolean} up */
export const flipped = (sign, up) => (sign === "brk" ? !up : sign === "rej" ? up : false);

const paths = /** @type {Record<string, Path2D>} */ ({});

/**
 * @param {CanvasRenderingContext2D} g
 * @param {string} name
 * @param {number} x
 * @param {number} y
 * @param {boolean} flip
 * @param {string} colour
 * @param {number} size
 */
export function drawGlyph(g, name, x, y, flip, colour, size = 12) {
  if (!GLYPHS[name]) return;
  paths[name] ??= new Path2D(GLYPHS[name]);
  g.save();
  g.translate(x, y);
  if (flip) g.scale(1, -1);
  g.scale(size / 14, size / 14);
  g.translate(-7, -7);
  g.strokeStyle = colour;
  g.lineWidth = 1.7;
  g.lineCap = g.lineJoin = "round";
  g.stroke(paths[name]);
  g.restore();
}

// ---- colours ---------------------------------------------------------------------------------

const TOKENS = [
  "bg",
  "s1",
  "s2",
  "line",
  "edge",
  "ink1",
  "ink2",
  "ink3",
  "brk",
  "rej",
  "buy",
  "sell",
  "warn",
  "bad",
  "on",
  "pane",
  "halo",
];
/** The colours of the theme, for canvases. @type {Record<string, string>} */
export const C = {};
export const FONT = { family: "sans-serif" };

/** @param {string} chosen "dark", "light", or "" for what the machine prefers */
export function setTheme(chosen) {
  const theme = chosen || (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
  document.documentElement.dataset.theme = theme;
  const style = getComputedStyle(document.documentElement);
  for (const name of TOKENS) C[name] = style.getPropertyValue(`--${name}`).trim();
  FONT.family = style.getPropertyValue("--font").trim();
  for (const name of Object.keys(patterns)) delete patterns[name];
  return theme;
}

/** @param {string} a @param {string} b @param {number} share of b */
export function mix(a, b, share) {
  const [p, q] = [a, b].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return `rgb(${p.map((value, i) => Math.round(value + (q[i] - value) * share)).join()})`;
}

/** The theme that is drawn. */
export const theme = () => document.documentElement.dataset.theme ?? "dark";

// ---- canvases --------------------------------------------------------------------------------

const ratio = () => Math.min(2, window.devicePixelRatio || 1);

/**
 * A canvas in its own size, in CSS pixels.
 * @param {HTMLCanvasElement} canvas
 * @returns {[CanvasRenderingContext2D, number, number]}
 */
export function fit(canvas) {
  const box = canvas.getBoundingClientRect();
  const [w, h] = [Math.round(box.width * ratio()), Math.round(box.height * ratio())];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  g.setTransform(ratio(), 0, 0, ratio(), 0, 0);
  return [g, box.width, box.height];
}

/** @typedef {{size?: number, bold?: boolean, align?: CanvasTextAlign, fill?: string, halo?: boolean}} Text */
/** @param {CanvasRenderingContext2D} g @param {string} said @param {number} x @param {number} y @param {Text} how */
export function text(g, said, x, y, how = {}) {
  g.font = `${how.bold ? "600 " : ""}${how.size ?? 11}px ${FONT.family}`;
  g.textAlign = how.align ?? "left";
  g.textBaseline = "middle";
  if (how.halo) {
    g.strokeStyle = C.halo;
    g.lineWidth = 3;
    g.lineJoin = "round";
    g.strokeText(said, x, y);
  }
  g.fillStyle = how.fill ?? C.ink3;
  g.fillText(said, x, y);
}

/**
 * A text on a plate.
 * @param {CanvasRenderingContext2D} g
 * @param {string} said
 * @param {number} x
 * @param {number} y
 * @param {{bold?: boolean, align?: string, bg?: string, edge?: string | null, fill?: string}} how
 * @returns {number} its width
 */
export function tag(g, said, x, y, how = {}) {
  g.font = `${how.bold ? "600 " : ""}11px ${FONT.family}`;
  const width = g.measureText(said).width + 10;
  const left = how.align === "center" ? x - width / 2 : how.align === "right" ? x - width : x;
  g.fillStyle = how.bg ?? C.s2;
  g.beginPath();
  g.roundRect(left, y - 8, width, 16, 2);
  g.fill();
  if (how.edge) {
    g.strokeStyle = how.edge;
    g.lineWidth = 1;
    g.stroke();
  }
  g.textAlign = "left";
  g.textBaseline = "middle";
  g.fillStyle = how.fill ?? C.ink1;
  g.fillText(said, left + 5, y + 0.5);
  return width;
}

/** @type {Record<string, CanvasPattern>} */
const patterns = {};

/** A gap has diagonals, a halt level lines. @param {CanvasRenderingContext2D} g @param {"gap" | "halt"} kind */
export function hatch(g, kind) {
  const d = ratio();
  const key = kind + d;
  if (patterns[key]) return patterns[key];
  const n = kind === "halt" ? 6 : 8;
  const tile = new OffscreenCanvas(n * d, n * d);
  const q = /** @type {OffscreenCanvasRenderingContext2D} */ (tile.getContext("2d"));
  q.scale(d, d);
  q.strokeStyle = C.edge;
  q.beginPath();
  const level = [[0, 3, n, 3]];
  const diagonal = [
    [-1, n + 1, n + 1, -1],
    [-1, 1, 1, -1],
    [n - 1, n + 1, n + 1, n - 1],
  ];
  const lines = kind === "halt" ? level : diagonal;
  for (const [x, y, x2, y2] of lines) {
    q.moveTo(x, y);
    q.lineTo(x2, y2);
  }
  q.stroke();
  const pattern = /** @type {CanvasPattern} */ (g.createPattern(tile, "repeat"));
  pattern.setTransform(new DOMMatrix().scale(1 / d));
  return (patterns[key] = pattern);
}
