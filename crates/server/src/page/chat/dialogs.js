// Drawers, where the window is narrow, and the dialog for another name.

import { byId } from "./page.js";

const DRAWERS = ["rooms", "people"];

/** Drawers open by their buttons, and close by Escape, the shade, or their own button. */
export class Drawers {
  #opener = null;

  constructor() {
    for (const name of DRAWERS) {
      byId(`open-${name}`).addEventListener("click", () => this.toggle(name));
    }
    for (const element of document.querySelectorAll("[data-close]")) {
      element.addEventListener("click", () => this.close());
    }
    addEventListener("keydown", ({ key }) => {
      // What is in front closes first.
      if (key === "Escape" && !byId("rename-dialog").open) this.close();
    });
    // Where there is room for all, nothing is a drawer.
    matchMedia("(min-width: 60rem)").addEventListener("change", () => this.close());
  }

  toggle(name) {
    const isOpen = document.body.dataset.drawer === name;
    this.close();
    if (isOpen) return;
    this.#opener = byId(`open-${name}`);
    document.body.dataset.drawer = name;
    this.#opener.setAttribute("aria-expanded", "true");
    this.#talk.inert = true;
    byId(name).focus();
  }

  close() {
    const opener = this.#opener;
    if (opener === null) return;
    this.#opener = null;
    delete document.body.dataset.drawer;
    opener.setAttribute("aria-expanded", "false");
    this.#talk.inert = false;
    opener.focus();
  }

  /** What lies behind a drawer. */
  get #talk() {
    return document.querySelector(".talk");
  }
}

/** Asks for another name; `change(name)` may fail, and `words(error)` says how. */
export function nameDialog(change, words) {
  const dialog = byId("rename-dialog");
  const input = byId("rename-name");
  const error = byId("rename-error");
  byId("rename-cancel").addEventListener("click", () => dialog.close());
  byId("rename-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    try {
      await change(input.value);
      dialog.close();
    } catch (failure) {
      error.textContent = words(failure);
      input.focus();
    }
  });
  return (name) => {
    error.textContent = "";
    input.value = name;
    dialog.showModal();
    input.select();
  };
}
