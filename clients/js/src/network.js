// What a browser knows of network and page. In Node there is nothing to know: always on-line,
// never hidden.

/** The clock and the dice; tests have their own. */
export const systemClock = {
  now: () => Date.now(),
  random: () => Math.random(),
  // Beyond this number they fire at once.
  setTimeout: (run, ms) => setTimeout(run, Math.min(ms, 2 ** 31 - 1)),
  clearTimeout: (timer) => clearTimeout(timer),
};

export class Network {
  #page;
  #notify;
  #listening = [];

  /**
   * `page` is globalThis, or what stands for it in a test. `notify` hears of
   * - "up": reason to look whether the connection still works, or to try again now;
   * - "down": the network is gone, says the browser;
   * - "leave": the page goes, for good or, `persisted`, perhaps to come back;
   * - "back": a page that was left comes back.
   */
  constructor(page, notify) {
    this.#page = page;
    this.#notify = notify;
  }

  get online() {
    return this.#page.navigator?.onLine !== false;
  }

  get hidden() {
    return this.#page.document?.visibilityState === "hidden";
  }

  start() {
    if (this.#listening.length > 0) return;
    const { document } = this.#page;
    // Worker threads and Node have an event target here or there, but never such events.
    this.#listen(this.#page, "online", () => this.#notify("up"));
    this.#listen(this.#page, "offline", () => this.#notify("down"));
    if (!document) return;
    this.#listen(document, "visibilitychange", () => this.hidden || this.#notify("up"));
    this.#listen(this.#page, "pagehide", (event) => this.#notify("leave", event.persisted));
    this.#listen(this.#page, "pageshow", (event) => event.persisted && this.#notify("back"));
  }

  stop() {
    for (const stop of this.#listening.splice(0)) stop();
  }

  #listen(target, event, handler) {
    if (typeof target.addEventListener !== "function") return;
    target.addEventListener(event, handler);
    this.#listening.push(() => target.removeEventListener(event, handler));
  }
}
