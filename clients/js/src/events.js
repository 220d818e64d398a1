// Those who listen. What they throw is reported, and does no harm here.

/** Runs a handler of the user's. */
export function call(handler, value) {
  try {
    const result = handler(value);
    if (typeof result?.then === "function") result.then(undefined, report);
  } catch (error) {
    report(error);
  }
}

/** Shows an error of a user's handler where uncaught ones are shown. */
function report(error) {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else console.error("tidegate: a handler failed:", error);
}

/** Handlers by name; each may be there more than once. */
export class Handlers {
  #handlers = new Map();

  /** Adds a handler. Answers a function that removes it. */
  add(name, handler) {
    if (typeof handler !== "function") throw new TypeError("a handler is a function");
    const entry = { handler };
    const entries = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, entries.add(entry));
    return () => {
      entries.delete(entry);
      if (entries.size === 0 && this.#handlers.get(name) === entries) this.#handlers.delete(name);
    };
  }

  emit(name, value) {
    for (const { handler } of [...(this.#handlers.get(name) ?? [])]) call(handler, value);
  }

  names() {
    return [...this.#handlers.keys()];
  }
}

/** Handlers by topic, by prefix (`chat/`), and for all (`*`). */
export class Subscriptions {
  #exact = new Handlers();
  #prefixes = new Handlers();

  add(topic, handler) {
    if (typeof topic !== "string" || topic === "") throw new TypeError("a topic is needed");
    if (topic === "*") return this.#prefixes.add("", handler);
    return (topic.endsWith("/") ? this.#prefixes : this.#exact).add(topic, handler);
  }

  emit(packet) {
    this.#exact.emit(packet.topic, packet);
    for (const prefix of this.#prefixes.names()) {
      if (packet.topic.startsWith(prefix)) this.#prefixes.emit(prefix, packet);
    }
  }
}

/** States that one reader of a stream has not seen yet; it misses old ones if it is slow. */
const MOST_UNSEEN = 64;

/** What `listen(handler)` brings, as a stream that begins with `first` and ends behind `isLast`. */
export function stream(first, listen, isLast) {
  const unseen = [first];
  const waiting = [];
  let isDone = false;
  const stop = listen((value) => {
    unseen.push(value);
    if (unseen.length > MOST_UNSEEN) unseen.shift();
    serve();
  });
  const end = () => {
    isDone = true;
    stop();
  };
  const serve = () => {
    while (waiting.length > 0 && (isDone || unseen.length > 0)) {
      const resolve = waiting.shift();
      if (isDone) {
        resolve({ value: undefined, done: true });
        continue;
      }
      const value = unseen.shift();
      if (isLast(value)) end();
      resolve({ value, done: false });
    }
  };
  return {
    next: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        serve();
      }),
    return: async (value) => {
      end();
      serve();
      return { value, done: true };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
