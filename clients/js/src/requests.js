// Requests whose answer is awaited. A topic names one: ids are unique.

import { QueueFullError, TimeoutError } from "./errors.js";

export class Requests {
  #pending = new Map();
  #clock;
  #limit;
  /** What the ids of this client begin with. A page that goes on with a session keeps it. */
  prefix;
  /** The number of the last id. */
  last = 0;

  constructor(clock, limit) {
    this.#clock = clock;
    this.#limit = limit;
    const random = Math.floor(clock.random() * 36 ** 4);
    this.prefix = `${random.toString(36).padStart(4, "0")}-`;
  }

  get size() {
    return this.#pending.size;
  }

  /** The topic of the next request for `method`. */
  topic(method) {
    if (this.#pending.size >= this.#limit) throw new QueueFullError(`${this.#limit} requests`);
    this.last += 1;
    return `${method}/${this.prefix}${this.last.toString(36)}`;
  }

  /**
   * Waits for the answer to `item`. `given` is called with it when nobody waits any more:
   * its time has passed, or the signal says so.
   */
  wait(item, { timeout, signal }, given) {
    return new Promise((resolve, reject) => {
      const entry = { item, resolve, reject, timer: undefined, abandon: undefined, signal };
      const giveUp = (error) => {
        this.#take(item.topic);
        given(item);
        reject(error);
      };
      if (Number.isFinite(timeout)) {
        const late = () => giveUp(new TimeoutError(item.topic, item.written));
        entry.timer = this.#clock.setTimeout(late, timeout);
      }
      if (signal) {
        entry.abandon = () => giveUp(signal.reason);
        signal.addEventListener("abort", entry.abandon);
      }
      this.#pending.set(item.topic, entry);
    });
  }

  /** Takes an answer. False for a packet that answers no request of this client. */
  answer(packet) {
    const entry = this.#take(packet.topic);
    if (entry === undefined) return this.#isOwn(packet.topic);
    entry.resolve(packet);
    return true;
  }

  /** Fails the request of this topic. False for a topic of no request of this client. */
  fail(topic, error) {
    const entry = this.#take(topic);
    entry?.reject(error);
    return entry !== undefined || this.#isOwn(topic);
  }

  /** Fails all that `which` says, by their items. */
  failAll(which, error) {
    for (const [topic, { item }] of [...this.#pending]) {
      if (which(item)) this.fail(topic, error(topic));
    }
  }

  /** Whether the topic is that of a request of this client, perhaps one given up. */
  #isOwn(topic) {
    return topic.startsWith(this.prefix, topic.lastIndexOf("/") + 1);
  }

  #take(topic) {
    const entry = this.#pending.get(topic);
    if (entry === undefined) return undefined;
    this.#pending.delete(topic);
    if (entry.timer !== undefined) this.#clock.clearTimeout(entry.timer);
    entry.signal?.removeEventListener("abort", entry.abandon);
    return entry;
  }
}
