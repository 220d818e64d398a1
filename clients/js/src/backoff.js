// How long to wait before the next attempt: exponential, with full jitter.

/** The longest that a gate's wish keeps the client away, in milliseconds. */
export const MAX_RETRY_AFTER = 3_600_000;

export class Backoff {
  #base;
  #cap;
  #random;
  /** Attempts that failed in a row. */
  attempt = 0;

  constructor({ base, cap }, random) {
    this.#base = base;
    this.#cap = cap;
    this.#random = random;
  }

  /** Milliseconds to wait, at least `retryAfter`, which the gate asked for. */
  next(retryAfter = 0) {
    const most = Math.min(this.#cap, this.#base * 2 ** Math.min(this.attempt, 32));
    this.attempt += 1;
    return retryAfter + this.#random() * most;
  }

  /** Milliseconds to wait once there is reason to believe that it works again. */
  soon() {
    return this.#random() * Math.min(this.#base, this.#cap);
  }

  reset() {
    this.attempt = 0;
  }
}
