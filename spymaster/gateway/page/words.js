// @ts-check
/** Every sentence of the page is made here, of what the daemon said. */

import { NONE, count, known, ms, points, price, share, signedFixed, span } from "./numbers.js";

/** @typedef {import("./model.js").Level} Level */
/** @typedef {{t: string, b?: boolean, c?: string}} Part a piece of a sentence: text, bold, class */

const KINDS = /** @type {Record<string, string>} */ ({
  USER_HOTZONE: "My zone",
  PRIOR_DAY_HIGH: "Prior day high",
  PRIOR_DAY_LOW: "Prior day low",
  PM_HIGH: "Pre-market high",
  PM_LOW: "Pre-market low",
  OVERNIGHT_HIGH: "Overnight high",
  OVERNIGHT_LOW: "Overnight low",
  OR_HIGH: "Opening range high",
  OR_LOW: "Opening range low",
  IB_HIGH: "Initial balance high",
  IB_LOW: "Initial balance low",
  ROUND: "Round number",
  STRIKE: "Strike",
  CALL_WALL: "Call wall",
  PUT_WALL: "Put wall",
  SESSION_HIGH: "Session high",
  SESSION_LOW: "Session low",
  POC: "Volume POC",
  VAH: "Value area high",
  VAL: "Value area low",
  GAMMA_FLIP: "Gamma flip",
  SMA_400: "SMA 400",
  SMA_200: "SMA 200",
  VWAP: "VWAP",
});
const SUMS = new Set(["VWAP", "POC", "VAH", "VAL"]);

/** @param {string} kind */
export const kindName = (kind) => KINDS[kind] ?? kind.replaceAll("_", " ").toLowerCase();

/** @param {Level} level */
export const levelName = (level) => kindName(level.kinds?.[0] ?? "");

/** A sum over the session, which a gap in it leaves right only about. @param {Level} level */
export const isSum = (level) => (level.kinds ?? []).some((kind) => SUMS.has(kind));

// ---- a level's signal ----------------------------------------------------------------------

export const SIGNAL_WORD = /** @type {Record<string, string>} */ ({
  brk: "BREAK",
  rej: "REJECT",
  con: "CONTESTED",
  neu: "neutral",
  vd: "VOID",
  ny: "not yet",
});
const OUTSIDE = new Set(["beyond ten levels", "inside the spread"]);

/** Which sign a level bears: brk, rej, con, neu, vd (void), ny (not yet).
 * @param {Level} level @param {import("./standing.js").Standing} standing */
export function signOf(level, standing) {
  const reason = level.barrier?.void_reason;
  if (standing.name === "first" && !known(level.score)) return "ny";
  if (standing.voids || (reason && !OUTSIDE.has(reason))) return reason === "warm-up" ? "ny" : "vd";
  return { BREAK: "brk", REJECT: "rej", CONTESTED: "con" }[level.signal ?? ""] ?? "neu";
}

/** Whether price would go up. @param {Level} level @param {string} sign */
export const goesUp = (level, sign) =>
  ((level.direction ?? 0) || Math.sign(level.distance_ticks ?? 0)) * (sign === "rej" ? -1 : 1) > 0;

/** @param {Level} level @param {string} sign */
export function signalText(level, sign) {
  return SIGNAL_WORD[sign] + (sign === "brk" || sign === "rej" ? (goesUp(level, sign) ? " ↑" : " ↓") : "");
}

/** The score as an integer; null where there is none. @param {Level} level @param {string} sign */
export const scoreOf = (level, sign) =>
  sign === "vd" || sign === "ny" || !known(level.score) ? null : Math.round(level.score);

// ---- components, causes first --------------------------------------------------------------

/** @param {Level} level */
const side = (level) => (level.barrier?.side === "ask" ? "asks" : level.barrier?.side === "bid" ? "bids" : "orders");

/** @param {Level} level */
export function barrierCause(level) {
  const who = side(level);
  const said = /** @type {Record<string, string>} */ ({
    VACUUM: `${who} are being pulled`,
    CONSUMED: `${who} were traded away`,
    WEAK: `${who} are thin`,
    WALL: `a wall of ${who} stands`,
    ABSORPTION: `${who} are hit and refill`,
  });
  return said[level.barrier?.held_state ?? level.barrier?.state ?? ""] ?? `${who} as usual`;
}

/** @param {Level} level */
export function tapeCause(level) {
  const of = level.tape?.imbalance;
  if (!known(of)) return "tape unknown";
  return of > 0.02 ? "buyers lead" : of < -0.02 ? "sellers lead" : "buyers and sellers even";
}

/** @param {Level} level */
export function fuelCause(level) {
  return { AMPLIFY: "dealers amplify", DAMPEN: "dealers damp" }[String(level.fuel?.effect)] ?? "dealers neutral";
}

export const COMPONENTS = /** @type {const} */ ([
  ["barrier", "Barrier", barrierCause],
  ["tape", "Tape", tapeCause],
  ["fuel", "Fuel", fuelCause],
]);

/** Components with points, largest first. @param {Level} level @returns {[string, number][]} */
export function causes(level) {
  const found = /** @type {[string, number][]} */ ([]);
  for (const [key, , say] of COMPONENTS) {
    const own = level.points?.[key];
    if (known(own) && Math.round(own) !== 0) found.push([say(level), own]);
  }
  return found.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
}

/**
 * Why a component has no points.
 * @param {Level} level
 * @param {string} key
 * @param {import("./standing.js").Standing} standing
 */
export function whyUnknown(level, key, standing) {
  if (standing.halted) return "unknown here, not zero: trading is halted";
  const reason = level.barrier?.void_reason;
  if (reason === "warm-up" || standing.name === "first") return "not yet: its window is not full";
  if (reason === "beyond ten levels")
    return key === "barrier" ? "outside the ten levels of the book" : "not judged without a barrier";
  return reason === "inside the spread" ? reason : "unknown here, not zero";
}

/** @param {string} reason */
export function barrierAbsent(reason) {
  return (
    /** @type {Record<string, string>} */ ({
      "beyond ten levels": "outside the book",
      "inside the spread": "inside the spread",
      "warm-up": "not yet: its window is not full",
      "snap is void": "void",
      "not whole": "void: its window is not whole",
      crossed: "void: the book is crossed",
      "no book": "void: no book",
    })[reason] ?? reason
  );
}

/** The counts behind a component, in one line. @param {Level} level @param {string} key @param {number} snapNs */
export function facts(level, key, snapNs) {
  if (key === "barrier") {
    const of = level.barrier ?? {};
    if (!known(of.depth)) return barrierAbsent(of.void_reason ?? "not whole");
    const typical = known(of.typical_depth) ? `, typical ${count(of.typical_depth)}` : "";
    const moved = known(of.added_60s)
      ? `cancelled ${count(of.canceled_60s)}, filled ${count(of.filled_60s)}, added ${count(of.added_60s)} in 60 s; `
      : "";
    return `${moved}${count(of.depth)} stand${typical}`;
  }
  if (key === "tape") {
    const of = level.tape ?? {};
    if (!known(of.imbalance)) return "no prints in its window";
    const swept = known(of.sweep_age_ns)
      ? `; sweep ${(of.sweep_direction ?? 0) > 0 ? "↑" : "↓"} ${span(ms(of.sweep_age_ns))} ago`
      : "";
    return `${signedFixed(of.imbalance)}: bought ${count(of.bought)}, sold ${count(of.sold)}${swept}`;
  }
  const of = level.fuel ?? {};
  if (!known(of.net)) return "no option prints near it";
  const flow = known(of.gamma_flow)
    ? `dealers ${of.gamma_flow < 0 ? "short" : "long"} ${count(Math.abs(of.gamma_flow))} by flow; `
    : "";
  const error = known(of.error) ? ` ± ${of.error.toFixed(2)}` : "";
  return `${flow}net ${signedFixed(of.net)}${error} of ${count(of.prints)} prints near it`;
}

/** @param {Level} level */
export function stateWord(level, /** @type {string} */ key) {
  if (key === "barrier")
    return level.barrier?.held_state ?? (level.barrier?.state === "VOID" ? "" : (level.barrier?.state ?? ""));
  return key === "tape" ? tapeCause(level) : (level.fuel?.effect ?? "");
}

/** Where the hole of a level lies that is only about right. @param {Level} level */
const hole = (level) => (isSum(level) ? "gap in its sum" : "gap in its span");

/** @param {Level} level @param {boolean} approximate */
export function confidence(level, approximate) {
  const of = level.confidence ?? 0;
  const word = of >= 0.8 && !approximate ? "HIGH" : of >= 0.5 ? "MEDIUM" : "LOW";
  const reason = approximate
    ? hole(level)
    : OUTSIDE.has(level.barrier?.void_reason ?? "")
      ? "the book does not reach this level"
      : `${share(level.barrier?.coverage)} of zone seen`;
  return { word, reason };
}

/** @param {import("./model.js").Held | undefined} held @returns {Part[]} */
export function heldText(held) {
  if (!held || !held.n) return [{ t: "no touch on record" }];
  if (held.n < 20) return [{ t: "held " }, { t: `${held.held} of ${held.n}`, c: "em" }, { t: ", too few" }];
  return [
    { t: "held " },
    { t: share(held.held / held.n), c: "em" },
    { t: ` of ${count(held.n)} (${Math.round(100 * held.low)}–${Math.round(100 * held.high)})` },
  ];
}

/**
 * Under a level's name: distance, barrier, touches.
 * @param {Level} level
 * @param {string} sign
 * @param {boolean} approximate
 * @param {import("./standing.js").Standing} standing
 */
export function underName(level, sign, approximate, standing) {
  const reason = level.barrier?.void_reason;
  let barrier = stateWord(level, "barrier");
  if (sign === "ny") barrier = standing.until ? `first score ${standing.until}` : "window not full";
  else if (sign === "vd")
    barrier = standing.halted
      ? "halted"
      : standing.until
        ? `void until ${standing.until}`
        : reason
          ? barrierAbsent(reason)
          : "void";
  else if (reason) barrier = barrierAbsent(reason);
  const touches = level.touches ?? 0;
  const rest =
    approximate && sign !== "vd" && sign !== "ny"
      ? ` · ${hole(level)}`
      : touches && sign !== "ny"
        ? ` · ${touches} touch${touches > 1 ? "es" : ""}`
        : "";
  return ` · ${barrier}${rest}`;
}

/** @param {Level} level @param {number} tick */
export const distance = (level, tick) => (level.distance_ticks ?? NaN) * tick;

/** @param {Level} level @param {number} tick */
export function aboveBelow(level, tick) {
  const of = distance(level, tick);
  return of === 0 ? "at the price" : `${points(of)} ${of > 0 ? "above" : "below"}`;
}

/** What an empty lake's page says where levels will be. */
export const NO_LEVELS =
  "No levels yet. They appear with the first recorded price; " +
  "pre-market and prior-day levels need those sessions in the lake.";

/** @param {string[]} missing kinds */
export function waitingKinds(missing) {
  if (!missing.length) return "";
  const some = missing.slice(0, 3).map(kindName).join(", ").toLowerCase();
  return `${missing.length} more kinds of level wait for their sessions or for earlier data, e.g. ${some}.`;
}

export const ALL_KINDS = Object.keys(KINDS);

/** @param {number | null | undefined} low @param {number | null | undefined} high */
export const thresholds = (high, low) =>
  known(high) && known(low) ? `BREAK from ${Math.round(high)}, REJECT to ${Math.round(low)}` : "";

/** @param {Level} level @param {string} sign @returns {Part[]} */
export function chance(level, sign) {
  if (sign === "vd" || sign === "ny") return [{ t: "P(break): void with the score." }];
  const within = known(level.p_horizon_s) ? ` in ${level.p_horizon_s} s` : "";
  if (known(level.p_break))
    return [
      { t: "P(break) " },
      { t: level.p_break.toFixed(2), b: true },
      {
        t: `${within} · model ${String(level.model_id ?? NONE).slice(0, 8)}`,
      },
    ];
  return [{ t: `P(break): ${level.model_note ?? "no model scores this level"}.` }];
}

// ---- the rows behind a score -----------------------------------------------------------------

const ACTION = /** @type {Record<string, string>} */ ({
  A: "added",
  C: "cancelled",
  M: "changed",
  T: "traded",
  F: "filled",
  R: "cleared",
});
const BOOK_SIDE = /** @type {Record<string, string>} */ ({ A: "ask", B: "bid" });

/** A row of /api/rows in words. @param {any} row */
export function evidence(row) {
  const { capture_id: capture, capture_seq: seq, action, aggressor } = row;
  const id = known(seq) ? `${String(capture ?? "").slice(-4)}:${seq}` : "";
  const size = known(row.size) ? `${action === "C" || action === "F" ? "−" : ""}${count(row.size)}` : "";
  const taken = !known(aggressor) || aggressor === 0 ? "side unknown" : aggressor > 0 ? "bought" : "sold";
  if (row.component === "fuel" || known(row.strike)) {
    const call = /^c/i.test(String(row.right ?? ""));
    return {
      what: `${call ? "call" : "put"} ${taken}, at ${price(row.price)}`,
      at: `${count(row.strike)} ${call ? "C" : "P"}`,
      size,
      id,
    };
  }
  const at = known(row.price) ? price(row.price) : "";
  if (row.component === "barrier" || action)
    return { what: `${BOOK_SIDE[row.side] ?? "book"} ${ACTION[action] ?? "changed"}`, at, size, id };
  return { what: taken, at, size, id };
}
