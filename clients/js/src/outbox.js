// What waits to be written: bounded, in order, in two lanes. The first lane is for what a new
// session begins with.

import { QueueFullError } from "./errors.js";

export class Outbox {
  #limit;
  #first = new Set();
  #rest = new Set();
  #bytes = 0;

  constructor(limit) {
    this.#limit = limit;
  }

  get packets() {
    return this.#first.size + this.#rest.size;
  }

  /** Lets an item wait, or throws QueueFullError. */
  push(item, first = false) {
    if (this.packets > 0 && !this.#hasRoom(item)) {
      throw new QueueFullError(`${this.packets} packets of ${this.#bytes} bytes`);
    }
    (first ? this.#first : this.#rest).add(item);
    this.#bytes += item.frame.length;
  }

  #hasRoom(item) {
    const { packets, bytes } = this.#limit;
    return this.packets < packets && this.#bytes + item.frame.length <= bytes;
  }

  /** The next item to write, which stays. While a session is being prepared, only the first lane's. */
  peek(onlyFirst) {
    for (const item of this.#first) return item;
    if (!onlyFirst) for (const item of this.#rest) return item;
    return undefined;
  }

  /** Takes an item out. Answers whether it was waiting. */
  remove(item) {
    if (!this.#first.delete(item) && !this.#rest.delete(item)) return false;
    this.#bytes -= item.frame.length;
    return true;
  }

  /** Takes the first lane out, or everything. */
  clear(onlyFirst) {
    const gone = onlyFirst ? [...this.#first] : [...this.#first, ...this.#rest];
    for (const item of gone) this.remove(item);
    return gone;
  }

  /** What waits, in the order in which it will be written. */
  items() {
    return [...this.#first, ...this.#rest];
  }
}
