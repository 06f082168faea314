// @ts-check
/**
 * How the page stands now: one object decides chip, sentence, hatch and what is void, so that no two places
 *   disagree.
 */

import { count, known, ms, price, signed, span } from "./numbers.js";
import { aboveBelow, causes, levelName, scoreOf, signOf, signalText } from "./words.js";

/** @typedef {import("./words.js").Part} Part */
/**
 * @typedef {{name: string, tone: string, glyph: string, word: string, figure: string, say: Part[], more: Part[],
 *   data: [string, string], shout: string, grey: boolean, voids: boolean, halted: boolean, until: string, sign:
 *   string, silentSince: number | null}} Standing
 */

/** @type {Omit<Standing, "name" | "glyph" | "word" | "figure">} */
const QUIET = {
  say: [],
  data: ["", ""],
  tone: "",
  more: [],
  shout: "",
  grey: false,
  voids: false,
  halted: false,
  until: "",
  sign: "",
  silentSince: null,
};
const FAR_MS = 3_600_000;

/** @param {import("./model.js").Model} model @param {import("./wire.js").Wire} wire @returns {Standing} */
export function standing(model, wire) {
  if (!model.began)
    return {
      ...QUIET,
      name: wire.open || !known(wire.begunAt) || performance.now() < 3000 ? "wait" : "down",
      ...unheard(),
    };
  if (wire.down) return down(model);
  const make =
    { empty, first, stale, halt, gap: voided, void: voided }[/** @type {string} */ (model.desk.state)] ?? live;
  return make(model);
}

function unheard() {
  const say = [{ t: "No daemon answers here yet.", b: true }, { t: " This page tries again every second." }];
  return { glyph: "bad", word: "NO DAEMON", figure: "", say, data: /** @type {[string, string]} */ (["", ""]) };
}

/** @param {import("./model.js").Model} model @returns {Standing} */
function down(model) {
  const since = model.zone.time(model.atMs);
  return {
    ...QUIET,
    name: "down",
    tone: "bad",
    glyph: "bad",
    word: "NO DAEMON",
    figure: `since ${since}`,
    grey: true,
    silentSince: model.snapMs,
    shout: "The daemon does not answer",
    say: [
      { t: `The daemon does not answer since ${since}.`, b: true, c: "t-bad" },
      { t: " What you see is the last it said. This page tries again every second." },
    ],
    data: ["bad", "recording: not known from here"],
  };
}

/** @param {import("./model.js").Model} model @returns {Standing} */
function empty(model) {
  return {
    ...QUIET,
    name: "empty",
    glyph: "stale",
    word: "NO DATA",
    figure: "nothing recorded",
    say: [{ t: "Nothing is recorded yet.", b: true }, { t: " No prices, levels or signals until a source runs." }],
    data: ["", (model.run.sources ?? []).length ? `${model.run.sources.length} sources named, no row yet` : ""],
  };
}

/** @param {import("./model.js").Model} model @returns {Standing} */
function first(model) {
  const { scores_ns: scores, whole_ns: whole } = model.desk.first ?? {};
  const begun = model.run.recorded_since_ns;
  const say = /** @type {Part[]} */ ([
    { t: known(begun) ? `Recording for ${span(model.now - (ms(begun) ?? 0))}.` : "Recording has begun.", b: true },
  ]);
  say.push({ t: " Scores wait for their windows to fill." });
  const due = known(scores) && scores / 1e6 > model.marketNow ? model.zone.time(ms(scores)) : "";
  if (due) say.push({ t: ` First scores at ${due}` });
  if (known(whole))
    say.push({ t: due ? ", all whole at " : " All whole at " }, { t: model.zone.time(ms(whole)), b: true });
  if (due || known(whole)) say.push({ t: "." });
  const missing = Object.keys(model.doc.gaps ?? {}).length;
  return {
    ...QUIET,
    name: "first",
    ...alive(model),
    say,
    until: due,
    data: missing ? ["gap", `${missing} gaps known`] : ["ok", "nothing missing so far"],
  };
}

/** @param {import("./model.js").Model} model @returns {Standing} */
function stale(model) {
  const silent = Object.entries(model.desk.silent ?? {});
  const since = Math.min(
    ...silent.map(([, one]) => ms(one.since_ns) ?? model.now),
    ms(model.desk.since_ns) ?? model.now,
  );
  const age = span(Math.max(0, model.now - since));
  const names = silent.map(([stream]) => model.streamName(stream));
  const what = names.length
    ? names.slice(0, 3).join(" or ") + (names.length > 3 ? ` or ${names.length - 3} more` : "")
    : "rows";
  const asOf = model.zone.time(model.snapMs);
  const { up, of } = model.desk.feeds ?? {};
  const trying = known(up) && known(of) && up < of ? " The daemon is up and is reconnecting." : " The daemon is up.";
  return {
    ...QUIET,
    name: "stale",
    tone: "warn",
    glyph: "stale",
    word: "STALE",
    figure: age,
    grey: true,
    silentSince: model.snapMs,
    shout: `Feed silent: no ${what}`,
    say: [
      { t: `No ${what} for ${age}.`, b: true, c: "t-warn" },
      {
        t: ` Everything grey is as of ${asOf}; signals are not judged until the feed is back.${trying}`,
      },
    ],
    data: [
      "warn",
      known(model.health.durable_to_ns)
        ? `rows kept: all up to ${model.zone.time(ms(model.health.durable_to_ns), 3)}`
        : "rows kept",
    ],
  };
}

/** @param {import("./model.js").Model} model @returns {Standing} */
function halt(model) {
  const { word = "halt", since_ns: began } = model.desk.halt ?? {};
  const since = model.zone.time(ms(began ?? model.desk.since_ns));
  const lag = lagText(model);
  const closed = /close|not_available/.test(word);
  return {
    ...QUIET,
    name: "halt",
    tone: "warn",
    glyph: "halt",
    word: closed ? "CLOSED" : "HALT",
    figure: `since ${since}`,
    voids: true,
    halted: true,
    shout: closed ? "" : `Trading is halted: ${word.replaceAll("_", " ")}`,
    say: [
      {
        t: `Trading in ${model.run.underlying ?? "the market"} is ${closed ? "closed" : "halted"} since ${since}`,
        b: true,
        c: "t-warn",
      },
      {
        t: ` (exchange status: ${cause(word)}). The book is what stood then. Signals are void until trading resumes.`,
      },
    ],
    data: ["ok", `data whole; feed alive${lag ? `, lag ${lag}` : ""}`],
  };
}

/** @param {import("./model.js").Model} model @returns {Standing} */
function voided(model) {
  const { snap, desk } = model;
  const until = known(snap?.void_until_ns) ? model.zone.time(ms(snap.void_until_ns)) : "";
  const { gap } = desk;
  const timed = gap && known(gap.start_ns) && known(gap.end_ns);
  const reason = gap
    ? `its window holds a gap${timed ? ` of ${span(ms(gap.end_ns - gap.start_ns))}` : ""}`
    : voidReason(snap?.void_reason ?? desk.reason);
  const near = model.nearest;
  // The judge that ended or is late has not voided its newest snap; a hole may leave what it does not touch.
  const voids = Boolean(snap?.void_reason) || desk.reason === "the judge ended";
  const base = { ...QUIET, name: desk.state, ...alive(model), voids, until };
  const sign = near ? signOf(near[1], base) : "vd";
  const say = /** @type {Part[]} */ (near ? opening(near[1], model) : []);
  if (near && !voids) say.push(...verdict(near[1], sign, model), { t: " But ", b: true }, { t: `${reason}.` });
  else {
    say.push({ t: "Score void:", b: true }, { t: ` ${reason}` });
    if (until) say.push({ t: " until " }, { t: until, b: true });
    say.push({ t: `.${near ? stillStands(near[1]) : ""}` });
  }
  const times = timed ? ` ${model.zone.time(ms(gap.start_ns))}–${model.zone.time(ms(gap.end_ns))}` : "";
  return {
    ...base,
    say,
    sign,
    data: gap ? ["gap", `gap${times}, ${cause(gap.cause)}, ${gap.state}`] : ["warn", reason],
  };
}

/** @param {import("./model.js").Model} model @returns {Standing} */
function live(model) {
  const near = model.nearest;
  const whole = known(model.snap?.whole_since_ns)
    ? `data whole since ${model.zone.time(ms(model.snap.whole_since_ns))}`
    : "";
  const base = {
    ...QUIET,
    name: "live",
    ...alive(model),
    data: /** @type {[string, string]} */ (["ok", whole]),
    say: /** @type {Part[]} */ ([]),
  };
  if (!near) return { ...base, say: [{ t: "No level is judged yet.", b: true }] };
  const sign = signOf(near[1], base);
  return {
    ...base,
    sign,
    say: [...opening(near[1], model), ...verdict(near[1], sign, model)],
    more: other(model, base),
  };
}

/** @param {import("./model.js").Level} level @param {import("./model.js").Model} model @returns {Part[]} */
function opening(level, model) {
  return [
    { t: "Nearest: " },
    { t: `${levelName(level)} ${price(level.price)}`, b: true },
    { t: `, ${aboveBelow(level, model.tick)}. ` },
  ];
}

/**
 * @param {import("./model.js").Level} level
 * @param {string} sign
 * @param {import("./model.js").Model} model
 * @returns {Part[]}
 */
function verdict(level, sign, model) {
  const score = scoreOf(level, sign);
  if (score === null) {
    const reason = level.barrier?.void_reason;
    return [
      { t: "No score:", b: true },
      {
        t: ` ${voidReason(reason)}.`,
      },
    ];
  }
  const said = /** @type {Part[]} */ ([{ t: "Score " }, { t: String(score), b: true }, { t: ", " }]);
  said.push({ t: signalText(level, sign), b: sign !== "neu", c: sign === "brk" || sign === "rej" ? `t-${sign}` : "" });
  const since = known(level.signal_since_ns) ? model.snapMs - level.signal_since_ns / 1e6 : NaN;
  if (sign !== "neu" && since >= 0) said.push({ t: ` for ${span(1000 * Math.floor(since / 1000))}` });
  const found = causes(level);
  said.push({ t: found.length ? ": " : ": no evidence either way" });
  found.forEach(([cause, own], i) =>
    said.push({ t: `${i ? ", " : ""}` }, { t: cause, b: true }, { t: ` ${signed(own)}` }),
  );
  said.push({ t: "." });
  return said;
}

/** @param {import("./model.js").Model} model @param {Standing} base @returns {Part[]} */
function other(model, base) {
  const found = model.opposite;
  if (!found) return [];
  const [, level] = found;
  const where = level.distance_ticks > 0 ? "above" : "below";
  const sign = signOf(level, base);
  const score = scoreOf(level, sign);
  const said = sign === "neu" ? (score === null ? "outside the book" : `score ${score}`) : signalText(level, sign);
  return [
    {
      t: ` Nearest ${where}: ${levelName(level)} ${price(level.price)}, ${said}.`,
    },
  ];
}

/** @param {import("./model.js").Level} level */
function stillStands(level) {
  const found = ["barrier", "tape", "fuel"]
    .filter((key) => known(level.points?.[key]))
    .map((key) => `${key} ${signed(level.points[key])}`);
  const said = `${found.join(" and ")} stand${found.length > 1 ? "" : "s"}.`;
  return found.length ? ` ${said[0].toUpperCase()}${said.slice(1)}` : "";
}

/** @param {import("./model.js").Model} model */
function alive(model) {
  return { glyph: "live", word: "LIVE", figure: lagText(model) };
}

/** @param {number} lag ms */
export const lagOf = (lag) => (lag < 1000 ? `${count(lag)} ms` : span(lag));

/**
 * The event lag of the judged book; nothing where its events are of another time than now.
 * @param {import("./model.js").Model} model
 */
export function lagText(model) {
  const book = Object.entries(model.doc.streams ?? {}).find(([name]) => name.startsWith("futures.mbp10/"))?.[1];
  const lag = book?.lag_ms;
  if (known(lag)) return lagOf(lag);
  const far = Math.abs(model.now - model.snapMs) > FAR_MS;
  return far && known(model.snapMs) ? model.zone.date(model.snapMs) : "";
}

/** @param {string | null | undefined} reason */
export function voidReason(reason) {
  return (
    /** @type {Record<string, string>} */ ({
      gap: "rows are missing in its window",
      skipped: "rows were skipped and are read again",
      overflow: "more rows came than it could take",
      "no book": "there is no book",
      crossed: "the book is crossed",
      "not whole": "its window is not whole",
      "warm-up": "its windows are filling",
      "stale quote": "the stock's quote is too old",
      "no quote": "there is no quote of the stock",
      halt: "trading is halted",
      "inside the spread": "it lies inside the spread",
      "beyond ten levels": "it is outside the ten levels of the book",
      "the judge is late": "the judge is behind what is recorded",
      "between sessions": "no session is on: levels are judged from its first rows",
      "the judge ended": "the judge has ended; the journal says why",
    })[reason ?? ""] ??
    reason ??
    "an input is missing"
  );
}

/** @param {string} word */
export const cause = (word) => word.replaceAll("_", " ");
