// A clock, a page and sockets that tests move by hand.

import { decode } from "../../src/codec.js";
import { Client } from "../../src/index.js";

/** Numbers between 0 and 1 that are the same for the same seed (mulberry32). */
export function dice(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Lets promises that are settled run what waits for them. */
export async function settle() {
  for (let i = 0; i < 12; i += 1) await null;
}

export class FakeClock {
  time = 1_000_000;
  #timers = new Map();
  #last = 0;
  #random;

  constructor(random = () => 0.5) {
    this.#random = random;
  }

  now = () => this.time;
  random = () => this.#random();

  setTimeout = (run, ms) => {
    if (!(ms >= 0)) throw new Error(`a timer of ${ms} ms`);
    this.#last += 1;
    this.#timers.set(this.#last, { at: this.time + ms, run });
    return this.#last;
  };

  clearTimeout = (timer) => {
    this.#timers.delete(timer);
  };

  get timers() {
    return this.#timers.size;
  }

  /** Time passes, timers fire in their order. */
  async pass(ms) {
    const end = this.time + ms;
    await settle();
    for (;;) {
      let next;
      for (const [id, { at }] of this.#timers) {
        if (at <= end && (next === undefined || at < next.at)) next = { id, at };
      }
      if (next === undefined) break;
      this.time = Math.max(this.time, next.at);
      const { run } = this.#timers.get(next.id);
      this.#timers.delete(next.id);
      run();
      await settle();
    }
    this.time = end;
  }

  /** Somebody sets the clock back; timers fire when they would have. */
  setBack(ms) {
    this.time -= ms;
    for (const timer of this.#timers.values()) timer.at -= ms;
  }

  /** Time passes while nothing runs: the machine sleeps. */
  sleep(ms) {
    this.time += ms;
  }
}

/** A browser's page, as far as the client looks at it. */
export class FakePage extends EventTarget {
  navigator = { onLine: true };
  document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  listeners = 0;

  addEventListener(...args) {
    this.listeners += 1;
    super.addEventListener(...args);
  }

  removeEventListener(...args) {
    this.listeners -= 1;
    super.removeEventListener(...args);
  }

  online(is) {
    this.navigator.onLine = is;
    this.dispatchEvent(new Event(is ? "online" : "offline"));
  }

  visible(is) {
    this.document.visibilityState = is ? "visible" : "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  leave(persisted) {
    this.dispatchEvent(Object.assign(new Event("pagehide"), { persisted }));
  }

  back() {
    this.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  }
}

/** The client's end of a socket; the test is the other. */
export class FakeSocket {
  readyState = 0;
  /** Frames as the client sent them. */
  frames = [];
  closed = null;

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  // --- what a WebSocket has

  send(frame) {
    if (this.readyState === 0) throw new Error("not open yet");
    if (this.readyState === 1) this.frames.push(new Uint8Array(frame));
  }

  close(code, reason) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new Error(`no code for a client: ${code}`);
    }
    this.closed ??= { code, reason };
    this.readyState = 3;
  }

  // --- what the test does

  open() {
    this.readyState = 1;
    this.onopen?.({});
  }

  receive(frame) {
    const copy = Uint8Array.from(frame);
    this.onmessage?.({ data: copy.buffer });
  }

  lose(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** Takes what was sent since the last time: `[topic, body]`, the body as text or number. */
  sent() {
    return this.frames.splice(0).map((frame) => {
      const packet = decode(frame);
      const isNumber = ["$ack", "$ping", "$pong"].includes(packet.topic);
      return [packet.topic, isNumber ? number(packet.body) : packet.text()];
    });
  }
}

export function number(body) {
  return Number(new DataView(body.buffer, body.byteOffset, 8).getBigUint64(0, true));
}

/** A client on fake sockets: `{client, clock, page, sockets, events}`. */
export function setUp(options = {}) {
  const clock = options.clock ?? new FakeClock();
  const page = new FakePage();
  const sockets = [];
  class Socket extends FakeSocket {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  }
  const client = new Client("ws://gate.test/", { WebSocket: Socket, clock, page, ...options });
  const events = [];
  for (const name of ["state", "gap", "error", "drain", "lost", "unresumable"]) {
    client.on(name, (value) => events.push([name, value]));
  }
  const last = () => sockets.at(-1);
  return { client, clock, page, sockets, events, last, ...verbs(clock, last) };
}

/** A client that is connected; the events until then are forgotten. */
export async function connected(options, fields) {
  const fake = setUp(options);
  const welcomed = fake.client.connect();
  await fake.accept(fields);
  await welcomed;
  fake.events.length = 0;
  return fake;
}

/** What came of a promise: `{value}` or `{error}`. */
export const settled = (promise) =>
  promise.then(
    (value) => ({ value }),
    (error) => ({ error }),
  );

/** What tests of a client do again and again. */
function verbs(clock, last) {
  const frames = frameMaker();
  const welcome = (fields) => last().receive(frames.json("$welcome", { ...WELCOME, ...fields }));
  return {
    ...frames,
    welcome,
    /** Lets the connection that is being tried succeed. Answers what was sent. */
    accept: async (fields) => {
      await settle();
      last().open();
      welcome(fields);
      await settle();
      return last().sent();
    },
  };
}

export const WELCOME = {
  version: 1,
  gate: "gate-1",
  session: "s-1",
  capabilities: ["resume"],
  heartbeat: { client_ms: 25_000, gate_ms: 25_000 },
  max_packet: 65_535,
  resume: { token: "t-1", window_ms: 120_000 },
  resumed: false,
  received: 0,
};

/** Frames, made without the code that is tested. */
export function frameMaker() {
  const frame = (topic, body) => {
    const name = Buffer.from(topic);
    const bytes = Buffer.from(body);
    const head = Buffer.alloc(4);
    head.writeUInt16LE(4 + name.length + bytes.length, 0);
    head.writeUInt16LE(name.length, 2);
    return new Uint8Array(Buffer.concat([head, name, bytes]));
  };
  const fixed = (topic, n) => {
    const body = Buffer.alloc(8);
    body.writeBigUInt64LE(BigInt(n));
    return frame(topic, body);
  };
  return { frame, fixed, json: (topic, value) => frame(topic, JSON.stringify(value)) };
}
