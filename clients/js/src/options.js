// What a client may be given, and what it takes where nothing is given.

import { MAX_NAME } from "./control.js";
import { systemClock } from "./network.js";

const DEFAULTS = {
  agent: "tidegate-client-js/0.1.0",
  resume: true,
  requestTimeout: 10_000,
  connectTimeout: 10_000,
  maxHidden: 300_000,
  maxRequests: 1024,
};

/** The options with everything filled in, checked. */
export function complete(url, given) {
  const options = {
    ...DEFAULTS,
    ...given,
    url: String(url),
    backoff: { base: 500, cap: 30_000, ...given.backoff },
    maxQueued: { packets: 256, bytes: 1024 * 1024, ...given.maxQueued },
    clock: given.clock ?? systemClock,
    page: given.page ?? globalThis,
    WebSocket: given.WebSocket ?? globalThis.WebSocket,
  };
  if (typeof options.WebSocket !== "function") {
    throw new TypeError("there is no WebSocket here: give one as options.WebSocket (npm's ws)");
  }
  const { backoff, maxQueued, heartbeat } = options;
  const numbers = {
    requestTimeout: options.requestTimeout,
    connectTimeout: options.connectTimeout,
    maxHidden: options.maxHidden,
    maxRequests: options.maxRequests,
    "backoff.base": backoff.base,
    "backoff.cap": backoff.cap,
    "maxQueued.packets": maxQueued.packets,
    "maxQueued.bytes": maxQueued.bytes,
    ...(heartbeat && { "heartbeat.client": heartbeat.client, "heartbeat.gate": heartbeat.gate }),
  };
  for (const [name, value] of Object.entries(numbers)) {
    if (typeof value !== "number" || !(value > 0)) {
      throw new TypeError(`options.${name} is a number above 0`);
    }
  }
  for (const name of ["agent", "device"]) {
    const bytes = new TextEncoder().encode(options[name] ?? "").length;
    if (bytes > MAX_NAME) throw new TypeError(`options.${name} has more than ${MAX_NAME} bytes`);
    if (/\p{Cc}/u.test(options[name] ?? "")) throw new TypeError(`options.${name} has control characters`);
  }
  return options;
}
