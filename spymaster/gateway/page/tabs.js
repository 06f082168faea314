// @ts-check
/** Panels as tabs, beside the ladder, or on the phone with it; on a wide screen all are open at once. */

import { attribute, byId, make } from "./nodes.js";

const PANELS = /** @type {const} */ ([
  ["why", "Why"],
  ["gamma", "Gamma"],
  ["alerts", "Alerts"],
  ["data", "Data"],
]);
const PHONE = matchMedia("(max-width: 760px)");
const WIDE = matchMedia("(min-width: 1680px)");

export class Tabs {
  /** @param {import("./model.js").Model} model @param {() => void} changed */
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    this.tabs = this.#list(byId("tabs"), PANELS, "tab");
    this.sections = this.#list(byId("nav"), [["levels", "Levels"], ...PANELS], "section");
    for (const query of [PHONE, WIDE]) query.addEventListener("change", () => this.place());
    this.place();
  }

  /** @param {HTMLElement} box @param {readonly (readonly [string, string])[]} entries @param {string} prefix */
  #list(box, entries, prefix) {
    const buttons = entries.map(([key, name]) => {
      const button = make("button", "", name);
      button.dataset.t = key;
      button.id = `${prefix}-${key}`;
      for (const [attr, value] of Object.entries({
        type: "button",
        role: "tab",
        "aria-controls": key === "levels" ? "rows" : key,
      }))
        button.setAttribute(attr, value);
      button.addEventListener("click", () => this.open(key));
      return button;
    });
    box.append(...buttons);
    box.addEventListener("keydown", (event) => {
      const at = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement));
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      const next = buttons[(to + buttons.length) % buttons.length];
      this.open(next.dataset.t ?? "why");
      next.focus();
    });
    return buttons;
  }

  /** @param {string} key */
  open(key) {
    this.model.chosen.set(key === "levels" ? { section: key } : { section: key, tab: key });
    this.place();
    if (WIDE.matches && key !== "levels") byId(key).scrollIntoView({ block: "nearest" });
    this.changed();
  }

  /** Whether a panel is on the screen. @param {string} key */
  shows(key) {
    const { tab, section } = this.model.chosen.of;
    return WIDE.matches || (PHONE.matches ? section === key : tab === key);
  }

  place() {
    const { tab, section } = this.model.chosen.of;
    const [why, panel, main] = [byId("why"), byId("panel"), byId("main")];
    const parent = WIDE.matches ? main : panel;
    if (why.parentElement !== parent)
      WIDE.matches ? main.insertBefore(why, panel) : panel.insertBefore(why, byId("gamma"));
    document.body.dataset.tab = PHONE.matches ? section : tab;
    for (const [key] of PANELS) {
      const pane = byId(key);
      pane.classList.toggle("on", key === tab);
      attribute(pane, "role", WIDE.matches ? "region" : "tabpanel");
    }
    for (const button of this.tabs) this.#mark(button, button.dataset.t === tab);
    for (const button of this.sections) this.#mark(button, button.dataset.t === section);
    this.changed();
  }

  /** @param {HTMLElement} button @param {boolean} on */
  #mark(button, on) {
    attribute(button, "aria-selected", String(on));
    attribute(button, "tabindex", on ? "0" : "-1");
  }
}
