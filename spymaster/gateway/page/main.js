// @ts-check
/** Wiring: frames in, what changed out, once a frame of the screen and only where the page is seen. */

import { Alerts } from "./alerts.js";
import { Chart } from "./chart.js";
import { Data } from "./data.js";
import { Gamma } from "./gamma.js";
import { Health } from "./health.js";
import { Keys } from "./keys.js";
import { Ladder } from "./ladder.js";
import { setTheme } from "./look.js";
import { Model } from "./model.js";
import { attribute, byId, plain, put } from "./nodes.js";
import { Zone } from "./numbers.js";
import { listen } from "./pointer.js";
import { Reading } from "./reading.js";
import { Told } from "./sound.js";
import { standing } from "./standing.js";
import { Tabs } from "./tabs.js";
import { Why } from "./why.js";
import { Wire, ask } from "./wire.js";
import { ZoneDialog } from "./zones.js";

const TICK_MS = 250;
const ROWS_MS = 1000;
const ROWS_SHARE = 10; // of the time that an answer takes the daemon is left alone after it
const HISTORY_MS = 500; // at least between two questions of history
const ZONES = /** @type {const} */ (["ET", "UTC", "local"]);

let [asked, all, moved, hover] = [false, true, true, true]; // what the next frame of the screen draws
let frames = 0;

const model = new Model();
setTheme(model.chosen.of.theme);
const chart = new Chart(model, () => dirty("chart"));
const reading = new Reading();
const ladder = new Ladder(choose);
const why = new Why({
  component: (key) => ((model.evidence.component = key), void rows(), dirty()),
  copy: (command) => navigator.clipboard.writeText(command),
});
const gamma = new Gamma();
const told = new Told(model);
const alerts = new Alerts((alert) => told.tell(alert));
const data = new Data();
const tabs = new Tabs(model, () => dirty());
const health = new Health(() => tabs.open("data"));
const zones = new ZoneDialog(model, chart);
const wire = new Wire((frame) => {
  model.take(frame);
  if (!model.chosen.of.level && model.nearest) choose(model.nearest[0]);
  if (model.chosen.of.level !== model.scores.level && model.level) void scores();
  alerts.take(model);
  dirty();
});

// ---- drawing ---------------------------------------------------------------------------------

/** @param {"chart" | "hover" | ""} what */
function dirty(what = "") {
  if (what === "hover") hover = true;
  else if (what !== "chart") all = true;
  if (what !== "hover") moved = true;
  if (asked || document.hidden) return;
  asked = true;
  requestAnimationFrame(draw);
}
function draw() {
  asked = false;
  const now = standing(model, wire);
  if (all) show(now);
  if (moved) {
    chart.draw(now);
    frames++;
    describe(now);
    void history();
  }
  if (moved || hover) chart.cross();
  all = hover = moved = false;
}

/** @param {import("./standing.js").Standing} now */
function show(now) {
  attribute(document.body, "data-state", now.name);
  document.body.classList.toggle("is-stale", now.grey);
  reading.show(model, now);
  ladder.show(model, now);
  if (tabs.shows("why")) why.show(model, now);
  gamma.show(model, now);
  alerts.show(model, tabs.shows("alerts") && document.hasFocus());
  data.show(model, now);
  health.show(model, now);
  message(now);
}

/** @param {import("./standing.js").Standing} now */
function message(now) {
  const none = now.name === "empty" || (now.name === "down" && !model.began);
  byId("msg").hidden = !none;
  if (!none) return;
  put(byId("msghead"), now.name === "empty" ? "Nothing is recorded yet" : "No daemon answers");
  put(
    byId("msgsay"),
    now.name === "empty"
      ? "The page fills as soon as the daemon has its first rows. Start it with a source, or with the simulated market:"
      : "This page is the daemon's own. Start it again, with a source or with the simulated market:",
  );
  put(byId("msgrun"), "spymaster run --source sim");
}

let described = "";

/** @param {import("./standing.js").Standing} now */
function describe(now) {
  const { view } = chart;
  const { zone } = model;
  const shown = `${zone.minute(view.from)} to ${zone.minute(view.to)} ${zone.name}`;
  const said = `${model.run.underlying ?? ""} candles and levels, ${shown}. ${plain(now.say)}`;
  const key = `${now.name} ${model.nearest?.[0]} ${now.sign} ${said.slice(0, 60)}`;
  if (key === described) return;
  described = key;
  put(byId("chartsay"), said);
  for (const button of byId("spans").querySelectorAll("button"))
    attribute(button, "aria-pressed", String(Number(button.dataset.s) === model.chosen.of.span));
}

let [heardBytes, countedAt] = [0, performance.now()];

setInterval(() => {
  // What grows by the page's own clock: the age of silence, and the hatch of it.
  const now = standing(model, wire);
  if (now.grey || now.halted || now.name === "first" || now.name !== document.body.dataset.state) dirty();
  const seconds = (performance.now() - countedAt) / 1000;
  if (seconds < 2) return;
  health.cost(`${chart.drawMs.toFixed(0)} ms, ${((wire.bytes - heardBytes) / 1024 / seconds).toFixed(0)} KB/s`);
  [heardBytes, countedAt] = [wire.bytes, performance.now()];
}, TICK_MS);

addEventListener("resize", () => dirty());
document.addEventListener("visibilitychange", () => dirty());
matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => theme(model.chosen.of.theme));

// ---- choosing --------------------------------------------------------------------------------

/** @param {string} id */
function choose(id) {
  if (id === model.chosen.of.level) return;
  model.chosen.set({ level: id });
  model.evidence.component = why.pressed = null;
  model.evidence.marks = [];
  void scores();
  void rows();
  dirty();
}

/** @param {number} by */
function step(by) {
  const ids = model.levels.map(([id]) => id);
  const at = ids.indexOf(model.chosen.of.level);
  const next = ids[Math.min(Math.max(at < 0 ? 0 : at + by, 0), ids.length - 1)];
  if (!next) return;
  choose(next);
  ladder.reveal(next);
}

/** @param {string} chosen */
function theme(chosen) {
  setTheme(chosen);
  dirty();
}

function otherTheme() {
  const chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  model.chosen.set({ theme: chosen });
  theme(chosen);
}

function otherZone() {
  const next = ZONES[(ZONES.indexOf(/** @type {any} */ (model.chosen.of.zone)) + 1) % ZONES.length];
  model.chosen.set({ zone: next });
  model.zone = new Zone(next, model.run.zone_label ?? "America/New_York");
  dirty();
}

// ---- what is asked for -----------------------------------------------------------------------

async function scores() {
  const { level } = model.chosen.of;
  model.scores.clear(level);
  if (!level) return;
  const found = await ask("/api/levels/scores", { level }).catch(() => null);
  if (!found || level !== model.chosen.of.level) return;
  const newer = /** @type {[number, number][]} */ ([]);
  model.scores.forEach((t, score) => newer.push([t, score]));
  model.scores.clear(level);
  for (const [ts, score] of found.scores ?? []) model.scores.put(ts / 1e6, score);
  for (const [t, score] of newer) model.scores.put(t, score);
  dirty();
}

let rowsAsked = false;
let rowsAfter = 0;

async function rows() {
  const { level } = model.chosen.of;
  if (!model.level || rowsAsked || document.hidden || wire.down || !tabs.shows("why")) return;
  rowsAsked = true;
  const began = performance.now();
  const { component } = model.evidence;
  const found = await ask("/api/rows", { level, component }).catch((error) => ({
    rows: [],
    error: String(error.message ?? error),
  }));
  rowsAsked = false;
  rowsAfter = performance.now() + ROWS_SHARE * (performance.now() - began);
  if (level !== model.chosen.of.level || component !== model.evidence.component) return;
  why.rows(found.rows ?? [], model, found.error);
  dirty("chart");
}
setInterval(() => performance.now() >= rowsAfter && void rows(), ROWS_MS);

let historyAt = -Infinity;
let historyBusy = false;
let historyLate = 0;
let historyKey = "";

async function history() {
  const wanted = chart.wanted;
  if (!wanted || historyBusy || !model.snap || wire.down) return;
  const wait = HISTORY_MS - (performance.now() - historyAt);
  if (wait > 0) {
    clearTimeout(historyLate);
    historyLate = window.setTimeout(() => void history(), wait);
    return;
  }
  const key = JSON.stringify([wanted.step, Math.floor(wanted.from / 60), Math.floor(wanted.to / 60)]);
  if (key === historyKey) return; // asked, and the lake has no more
  [historyBusy, historyAt, historyKey] = [true, performance.now(), key];
  const given = {
    step: wanted.step,
    from_ns: `${Math.floor(wanted.from)}000000000`,
    to_ns: `${Math.floor(wanted.to)}000000000`,
  };
  const found = await ask("/api/history/candles", given).catch(() => null);
  historyBusy = false;
  if (found) model.older.put(wanted.step, wanted.from, wanted.to, found.candles ?? found.bars ?? []);
  dirty("chart");
}

// ---- keys, pointer, buttons ------------------------------------------------------------------

listen(chart, { choose, zone: (at) => zones.ask(at), hover: () => dirty("hover") });

const keys = new Keys(model, [
  { keys: ["ArrowUp"], shown: "", does: "", always: true, run: () => step(-1) },
  { keys: ["ArrowDown"], shown: "↑ ↓", does: "previous, next level", always: true, run: () => step(1) },
  { keys: ["ArrowLeft"], shown: "", does: "", run: (event) => chart.shift(event.shiftKey ? -0.9 : -0.1) },
  {
    keys: ["ArrowRight"],
    shown: "← →",
    does: "back, forward in time (Shift: a screen)",
    run: (event) => chart.shift(event.shiftKey ? 0.9 : 0.1),
  },
  { keys: ["Enter", "w"], shown: "Enter W", does: "why", run: () => tabs.open("why") },
  {
    keys: ["+", "=", "*"],
    shown: "",
    does: "",
    run: (event) => (event.shiftKey ? chart.zoomPrice(1 / 1.3) : chart.zoom(1 / 1.5)),
  },
  {
    keys: ["-", "_"],
    shown: "+ −",
    does: "time closer, wider (Shift: price)",
    run: (event) => (event.shiftKey ? chart.zoomPrice(1.3) : chart.zoom(1.5)),
  },
  { keys: ["n"], shown: "N", does: "nearest level", run: () => nearest() },
  { keys: ["l"], shown: "L", does: "live edge", run: () => chart.moveTo(Infinity) },
  { keys: ["p"], shown: "P", does: "follow price", run: () => chart.followPrice() },
  { keys: ["["], shown: "", does: "", run: () => chart.toGap(-1) },
  { keys: ["]"], shown: "[ ]", does: "previous, next gap", run: () => chart.toGap(1) },
  { keys: ["g"], shown: "G", does: "gamma", run: () => tabs.open("gamma") },
  { keys: ["a"], shown: "A", does: "alerts", run: () => tabs.open("alerts") },
  { keys: ["d"], shown: "D", does: "data", run: () => tabs.open("data") },
  { keys: ["h"], shown: "H", does: "my zone at the crosshair", run: () => zoneHere() },
  { keys: ["m"], shown: "M", does: "sound on, off", run: () => told.sound(!model.chosen.of.sound) },
  { keys: ["z"], shown: "Z", does: "time zone: ET, UTC, local", run: () => otherZone() },
  { keys: ["t"], shown: "T", does: "light, dark", run: () => otherTheme() },
  { keys: ["?"], shown: "?", does: "keys", run: () => keys.open() },
]);

function nearest() {
  const found = model.nearest;
  if (!found) return;
  choose(found[0]);
  ladder.center();
}

function zoneHere() {
  const at = chart.hover && chart.hover.x <= chart.of.width ? chart.priceAt(chart.hover.y) : model.mid;
  if (at !== null) zones.ask(Math.round(at / model.tick) * model.tick);
}

byId("b-alerts").addEventListener("click", () => tabs.open("alerts"));
byId("b-older").addEventListener("click", () => void alerts.earlier().then(() => dirty()));
byId("b-theme").addEventListener("click", otherTheme);
byId("spans").addEventListener("click", (event) => {
  const seconds = Number(/** @type {HTMLElement} */ (event.target).dataset.s);
  if (!seconds) return;
  model.chosen.set({ span: seconds });
  chart.followPrice();
  described = "";
  dirty();
});
// For tests and for whoever measures: what the page draws, and when it last heard the daemon.
Object.assign(window, {
  spymaster: {
    model,
    chart,
    wire,
    get frames() {
      return frames;
    },
  },
});
