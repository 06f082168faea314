// @ts-check
/** Numbers, times and spans as the page writes them. A real minus, 24 hours, no sign where there is no figure. */

export const NONE = "—";
const MINUS = "−";
export const NS_PER_MS = 1e6;

/** @param {unknown} x @returns {x is number} */
export const known = (x) => typeof x === "number" && Number.isFinite(x);

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const cents = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const halves = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 3 });

/** @param {number | null | undefined} x */
export const price = (x) => (known(x) ? cents.format(x) : NONE);

/** A distance is from the mid, which lies on half ticks. @param {number | null | undefined} x */
export const points = (x) => (known(x) ? halves.format(Math.abs(x)) : NONE);

/** @param {number | null | undefined} x */
export const signedPoints = (x) => (known(x) ? sign(x) + halves.format(Math.abs(x)) : NONE);

/** @param {number | null | undefined} x */
export const count = (x) =>
  known(x) ? (Math.round(x) < 0 ? MINUS : "") + whole.format(Math.abs(Math.round(x))) : NONE;

/** @param {number | null | undefined} x */
export const signed = (x) => (known(x) ? sign(Math.round(x)) + whole.format(Math.abs(Math.round(x))) : NONE);

/** @param {number | null | undefined} x @param {number} digits */
export const signedFixed = (x, digits = 2) =>
  known(x) ? sign(+x.toFixed(digits)) + Math.abs(x).toFixed(digits) : NONE;

/** @param {number | null | undefined} x */
export const share = (x) => (known(x) ? `${Math.round(100 * x)} %` : NONE);

/** @param {number} x */
const sign = (x) => (x > 0 ? "+" : x < 0 ? MINUS : "±");

/** Below ten a rate has one decimal. @param {number | null | undefined} x */
export const rate = (x) => (known(x) ? (x > 0 && x < 10 ? x.toFixed(1) : count(x)) : NONE);

/** @param {number | null | undefined} ms @returns {string} */
export function span(ms) {
  if (!known(ms)) return NONE;
  const s = ms / 1000;
  if (s < 0) return `${MINUS}${span(-ms)}`;
  if (s < 0.1) return `${Math.round(ms)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

/** @param {number | null | undefined} bytes */
export function size(bytes) {
  if (!known(bytes)) return NONE;
  for (const [unit, of] of /** @type {[string, number][]} */ ([
    ["TB", 1e12],
    ["GB", 1e9],
    ["MB", 1e6],
    ["KB", 1e3],
  ])) {
    if (bytes >= of) return `${bytes / of < 10 ? (bytes / of).toFixed(1) : count(bytes / of)} ${unit}`;
  }
  return `${count(bytes)} B`;
}

/** @param {number | null | undefined} ns */
export const ms = (ns) => (known(ns) ? ns / NS_PER_MS : null);

const BUCKET_MS = 900_000; // no zone changes its offset within a quarter of an hour

/** Clock times of one zone. */
export class Zone {
  /** @param {"ET" | "UTC" | "local"} name @param {string} market the market's own zone */
  constructor(name, market) {
    this.name = name;
    const zone = name === "UTC" ? "UTC" : name === "ET" ? market : undefined;
    this.format = new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "short",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
    });
    this.bucket = NaN;
    this.cached = 0;
  }

  /** What is added to UTC. @param {number} at */
  offset(at) {
    const bucket = Math.floor(at / BUCKET_MS);
    if (bucket !== this.bucket) {
      const part = Object.fromEntries(
        this.format.formatToParts(bucket * BUCKET_MS).map((one) => [one.type, one.value]),
      );
      const shown = Date.parse(`${part.day} ${part.month} ${part.year} ${part.hour}:${part.minute}:${part.second} UTC`);
      this.bucket = bucket;
      this.cached = shown - bucket * BUCKET_MS;
    }
    return this.cached;
  }

  /** `14:31:08`, with `digits` 3 `14:31:08.250`. @param {number | null | undefined} at UTC ms @param {number} digits */
  time(at, digits = 0) {
    if (!known(at)) return NONE;
    return new Date(at + this.offset(at)).toISOString().slice(11, digits ? 20 + digits : 19);
  }

  /** `14:31` @param {number} at */
  minute(at) {
    return this.time(at).slice(0, 5);
  }

  /** `26 Nov 2026` @param {number} at */
  date(at) {
    const part = Object.fromEntries(this.format.formatToParts(at).map((one) => [one.type, one.value]));
    return `${Number(part.day)} ${part.month} ${part.year}`;
  }
}
