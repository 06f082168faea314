// @ts-check
/** Zones of the user's own: set and removed at a price, after one question. */

import { byId, put } from "./nodes.js";
import { price } from "./numbers.js";
import { post } from "./wire.js";

const NEAR_PX = 7; // a click so near a zone means that zone

export class ZoneDialog {
  /** @param {import("./model.js").Model} model @param {import("./chart.js").Chart} chart */
  constructor(model, chart) {
    this.model = model;
    this.chart = chart;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("zonedialog"));
    /** @type {{zone: string, price: number | null}} */
    this.asked = { zone: "", price: null };
    byId("zoneyes").addEventListener("click", (event) => {
      event.preventDefault();
      void this.#send();
    });
  }

  /** @param {number} at a price */
  ask(at) {
    const zones = /** @type {[string, number][]} */ (Object.entries(this.model.doc.zones ?? {}));
    const near = zones.filter(([, own]) => Math.abs(this.chart.yOf(own) - this.chart.yOf(at)) <= NEAR_PX);
    near.sort((a, b) => Math.abs(a[1] - at) - Math.abs(b[1] - at));
    const [name, own] = near[0] ?? [this.#free(zones), null];
    this.asked = { zone: name, price: own === null ? at : null };
    put(
      byId("zonehead"),
      own === null ? `Set a zone of mine at ${price(at)}?` : `Remove my zone ${name} at ${price(own)}?`,
    );
    put(
      byId("zonesay"),
      own === null
        ? "It is judged as a level from the next snap on, and stays until it is removed."
        : "What was recorded of it stays recorded.",
    );
    put(byId("zoneyes"), own === null ? "Set" : "Remove");
    put(byId("zoneerror"), "");
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** @param {[string, number][]} zones */
  #free(zones) {
    const taken = new Set(zones.map(([name]) => name));
    for (let i = 1; ; i++) if (!taken.has(String(i))) return String(i);
  }

  async #send() {
    try {
      await post("/api/config/hotzone", this.asked);
      this.dialog.close();
    } catch (error) {
      put(byId("zoneerror"), error instanceof Error ? error.message : String(error));
    }
  }
}
