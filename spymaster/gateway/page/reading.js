// @ts-check
/** Top bar and reading: chip, price, and the one sentence, seen with every figure and spoken on transitions only. */

import { icon, setIcon } from "./look.js";
import { byId, plain, put, sentence } from "./nodes.js";
import { known, price } from "./numbers.js";

const SPOKEN_EVERY_MS = 3000;
const OLD_MS = 3_600_000; // a recording of another day shows that day

export class Reading {
  constructor() {
    this.chip = byId("chip");
    this.glyph = icon("live");
    this.word = document.createElement("span");
    this.figure = document.createElement("small");
    this.chip.append(this.glyph, this.word, this.figure);
    this.dataGlyph = icon("ok");
    this.dataText = document.createElement("span");
    byId("saydata").append(this.dataGlyph, this.dataText);
    this.spoken = "";
    this.spokenAt = -Infinity;
    this.shouted = "";
    this.time = document.createElement("b");
    this.timeZone = document.createElement("span");
    byId("clock").append(this.time, this.timeZone);
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  show(model, now) {
    const tone = now.tone ? `chip ${now.tone}` : "chip";
    if (this.chip.className !== tone) this.chip.className = tone;
    setIcon(this.glyph, now.glyph);
    put(this.word, now.word);
    put(this.figure, now.figure);
    sentence(
      byId("say"),
      now.more.length ? [...now.say, ...now.more.map((part) => ({ ...part, c: "more" }))] : now.say,
    );
    setIcon(this.dataGlyph, now.data[1] ? now.data[0] : "");
    put(this.dataText, now.data[1]);
    this.#market(model, now);
    this.#speak(model, now);
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  #market(model, now) {
    const { snap } = model;
    const none = now.name === "empty" || now.name === "wait";
    const own = none ? "—" : price(model.price);
    put(byId("underlying"), model.run.underlying ?? "");
    put(
      byId("contract"),
      snap?.contract ? `${snap.contract} · ${model.run.simulated ? "simulated market" : "front month"}` : "",
    );
    put(byId("spot"), own);
    put(byId("bbo"), !none && known(snap?.bid) && known(snap?.ask) ? `${price(snap.bid)} × ${price(snap.ask)}` : "");
    const old = Math.abs(model.now - model.snapMs) > OLD_MS;
    const at = old ? model.snapMs : model.now;
    put(this.time, known(at) ? `${old ? `${model.zone.date(at)} ` : ""}${model.zone.time(at)}` : "");
    put(this.timeZone, known(at) ? ` ${model.zone.name}` : "");
    const trouble = now.grey || now.halted ? `${now.word} · ` : "";
    const title = `${trouble}${none ? "" : `${own} ${model.run.underlying ?? ""} · `}spymaster`;
    if (document.title !== title) document.title = title;
  }

  /** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now */
  #speak(model, now) {
    if (now.shout !== this.shouted) {
      this.shouted = now.shout;
      put(byId("shout"), now.shout);
    }
    const key = `${now.name} ${model.nearest?.[0] ?? ""} ${now.sign}`;
    const due = performance.now() - this.spokenAt >= SPOKEN_EVERY_MS;
    if (now.name === "wait" || key === this.spoken || !due) return;
    this.spoken = key;
    this.spokenAt = performance.now();
    put(byId("saylive"), plain(now.say));
  }
}
