// @ts-check
/** Keys, and the dialog that lists them: only those that do something. */

import { byId, make } from "./nodes.js";

/**
 * @typedef {{keys: string[], shown: string, does: string, run: (event: KeyboardEvent) => void, always?: boolean}}
 *   Key
 */

export class Keys {
  /** @param {import("./model.js").Model} model @param {Key[]} keys */
  constructor(model, keys) {
    this.model = model;
    /** @type {Map<string, Key>} */
    this.byKey = new Map(keys.flatMap((one) => one.keys.map((name) => [name, one])));
    this.dialog = /** @type {HTMLDialogElement} */ (byId("keysdialog"));
    const list = byId("keylist");
    for (const { shown, does } of keys.filter((one) => one.shown)) {
      list.append(
        make("span", "", ...shown.split(" ").flatMap((name) => [make("kbd", "", name), " "])),
        make("div", "", does),
      );
    }
    const letters = /** @type {HTMLInputElement} */ (byId("letters"));
    letters.checked = model.chosen.of.letters;
    letters.addEventListener("change", () => model.chosen.set({ letters: letters.checked }));
    byId("b-keys").addEventListener("click", () => this.open());
    addEventListener("keydown", (event) => this.#pressed(event));
  }

  open() {
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (
      event.metaKey ||
      event.ctrlKey ||
      event.altKey ||
      target.matches("input, textarea, select") ||
      document.querySelector("dialog[open]")
    )
      return;
    // Enter and Space are the button's own.
    if ((event.key === "Enter" || event.key === " ") && target.matches("button, a, [role=tab]")) return;
    const key = this.byKey.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
    if (!key) return;
    const listed = target.closest("#rows") && key.always;
    if (!this.model.chosen.of.letters && !listed) return;
    if (target.closest(".pane") && (event.key === "ArrowUp" || event.key === "ArrowDown")) return; // scrolls it
    event.preventDefault();
    key.run(event);
  }
}
