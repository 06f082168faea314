// @ts-check
/**
 * Two short tones, break rising, reject falling, data one low; and desktop notifications, where the browser
 *   allows them.
 */

import { byId, put } from "./nodes.js";
import { toneOf } from "./alerts.js";

const TONES = /** @type {Record<string, number[]>} */ ({ brk: [660, 880], rej: [880, 660], data: [330] });
const TONE_S = 0.09;
const APART_MS = 1000; // at most one sound a second

export class Told {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
    /** @type {AudioContext | null} */
    this.audio = null;
    this.soundedAt = -Infinity;
    const begin = () => {
      // Browsers give no sound before the first press in a page.
      this.audio ??= new AudioContext();
      this.show();
    };
    addEventListener("pointerdown", begin, { once: true });
    addEventListener("keydown", begin, { once: true });
    byId("b-sound").addEventListener("click", () => this.sound(!model.chosen.of.sound));
    byId("b-desktop").addEventListener("click", () => void this.desktop());
    this.show();
  }

  /** @param {boolean} on */
  sound(on) {
    this.model.chosen.set({ sound: on });
    this.show();
    if (on) this.#play("brk");
  }

  async desktop() {
    const { of } = this.model.chosen;
    const allowed = "Notification" in window && !of.desktop && (await Notification.requestPermission()) === "granted";
    this.model.chosen.set({ desktop: allowed });
    this.show();
  }

  show() {
    const { sound, desktop } = this.model.chosen.of;
    put(byId("b-sound"), sound ? (this.audio ? "sound on" : "sound from the first click on") : "sound off");
    const denied = !("Notification" in window) || Notification.permission === "denied";
    put(byId("b-desktop"), denied ? "desktop not allowed by the browser" : desktop ? "desktop on" : "desktop off");
  }

  /** @param {import("./alerts.js").Alert} alert */
  tell(alert) {
    const { sound, desktop } = this.model.chosen.of;
    if (sound) this.#play(toneOf(alert));
    if (desktop && document.hidden && "Notification" in window && Notification.permission === "granted")
      new Notification("spymaster", { body: alert.text, tag: `${alert.kind} ${alert.subject}` });
  }

  /** @param {string} which */
  #play(which) {
    const tones = TONES[which];
    const { audio } = this;
    if (!tones || audio?.state !== "running" || performance.now() - this.soundedAt < APART_MS) return;
    this.soundedAt = performance.now();
    tones.forEach((pitch, i) => {
      const [from, tone, loudness] = [audio.currentTime + i * TONE_S, audio.createOscillator(), audio.createGain()];
      tone.frequency.value = pitch;
      loudness.gain.setValueAtTime(0.12, from);
      loudness.gain.exponentialRampToValueAtTime(0.001, from + TONE_S);
      tone.connect(loudness).connect(audio.destination);
      tone.start(from);
      tone.stop(from + TONE_S);
    });
  }
}
