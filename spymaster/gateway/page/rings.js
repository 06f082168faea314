// @ts-check
/** History in typed arrays of fixed size: what is older than a ring is overwritten. */

export const BARS = 3600; // seconds of the newest hour
export const SCORES = 2400; // ten minutes at four a second
const MOST_OLDER = 2000; // candles of one answer

/** One-second bars, each at the place of its second. */
export class Bars {
  constructor() {
    this.t = new Float64Array(BARS).fill(NaN);
    this.open = new Float64Array(BARS);
    this.high = new Float64Array(BARS);
    this.low = new Float64Array(BARS);
    this.close = new Float64Array(BARS);
    this.volume = new Float64Array(BARS);
    this.bought = new Float64Array(BARS);
    this.sold = new Float64Array(BARS);
    this.newest = NaN;
    this.oldest = NaN;
  }

  /**
   * @param {number[][]} rows `[t_s, open, high, low, close, volume, bought, sold]`
   * @param {boolean} older only where there is none
   */
  put(rows, older = false) {
    for (const [t, open, high, low, close, volume, bought, sold] of rows) {
      if (t <= this.newest - BARS) continue;
      const at = ((t % BARS) + BARS) % BARS;
      if (this.t[at] > t || (older && this.t[at] === t)) continue;
      this.t[at] = t;
      this.open[at] = open;
      this.high[at] = high;
      this.low[at] = low;
      this.close[at] = close;
      this.volume[at] = volume;
      this.bought[at] = bought;
      this.sold[at] = sold;
      if (!(t <= this.newest)) this.newest = t;
      if (!(t >= this.oldest)) this.oldest = t;
    }
    if (this.oldest <= this.newest - BARS) this.oldest = this.newest - BARS + 1;
  }

  /** @param {number} second @returns {number} its place, -1 if there is no bar */
  at(second) {
    const at = ((second % BARS) + BARS) % BARS;
    return this.t[at] === second ? at : -1;
  }

  clear() {
    this.t.fill(NaN);
    this.newest = this.oldest = NaN;
  }

  get price() {
    const at = this.at(this.newest);
    return at < 0 ? null : this.close[at];
  }
}

/** Candles from before the newest hour, of one step and one span: the newest answer of the lake. */
export class Older {
  constructor() {
    this.rows = new Float64Array(MOST_OLDER * 6);
    this.count = this.step = 0;
    this.from = this.to = NaN;
  }

  /** @param {number} step @param {number} from @param {number} to @param {number[][]} bars */
  put(step, from, to, bars) {
    this.count = 0;
    for (const [t, open, high, low, close, volume] of bars.slice(-MOST_OLDER))
      this.rows.set([t, open, high, low, close, volume], 6 * this.count++);
    [this.step, this.from, this.to] = [step, from, to];
  }

  /** @param {number} step @param {number} from @param {number} to seconds */
  covers(step, from, to) {
    return this.step === step && this.from <= from && this.to >= to;
  }
}

/** Ten minutes of one level's scores; NaN where it was void. */
export class Scores {
  constructor() {
    this.t = new Float64Array(SCORES);
    this.score = new Float32Array(SCORES);
    this.level = "";
    this.count = this.next = 0;
    this.newest = -Infinity;
  }

  /** @param {string} level */
  clear(level) {
    this.level = level;
    this.count = 0;
    this.next = 0;
    this.newest = -Infinity;
  }

  /** @param {number} t ms @param {number | null | undefined} score */
  put(t, score) {
    if (t <= this.newest) return;
    this.t[this.next] = this.newest = t;
    this.score[this.next] = score ?? NaN;
    this.next = (this.next + 1) % SCORES;
    this.count = Math.min(this.count + 1, SCORES);
  }

  /** @param {(t: number, score: number) => void} each oldest first */
  forEach(each) {
    for (let i = 0; i < this.count; i++) {
      const at = (this.next - this.count + i + SCORES) % SCORES;
      each(this.t[at], this.score[at]);
    }
  }
}
