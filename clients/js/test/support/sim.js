// A gate as simple as it can be, behind a wire that is cut at any byte.

import { FakeSocket, WELCOME, frameMaker, number } from "./fake.js";
import { decode } from "../../src/codec.js";

const { frame, fixed, json } = frameMaker();
/** Bytes of the HTTP upgrade, each way, and of a WebSocket frame's head. */
const [REQUEST, RESPONSE, HEAD] = [220, 130, 4];

/** One session, as the gate keeps it. */
class GateSession {
  received = 0;
  written = 0;
  /** `{frame, count}` with the count once it has been taken. */
  retained = [];
  pushed = 0;
  spent = new Set();
  next = null;

  constructor(token) {
    this.current = token;
  }

  confirm() {
    if (this.next === null) return;
    this.spent.add(this.current);
    this.current = this.next;
    this.next = null;
  }
}

export class SimGate {
  problems = [];
  sessions = [];
  fresh = 0;
  #tokens = 0;

  constructor(history, random) {
    this.history = history;
    this.random = random;
  }

  /** The gate's end of a connection: `take(frame)`, and `session` once it is welcomed. */
  accept(write) {
    const connection = { session: null, write, isFirst: true };
    connection.take = (bytes) => this.#take(connection, decode(bytes));
    return connection;
  }

  #blame(what) {
    this.problems.push(what);
  }

  #take(connection, packet) {
    const { session } = connection;
    if (session === null) {
      if (packet.topic !== "$hello") this.#blame(`${packet.topic} before $hello`);
      else this.#hello(connection, packet.json());
      return;
    }
    if (session.connection !== connection) return;
    if (connection.isFirst && packet.topic !== "$ack") this.#blame(`${packet.topic} before $ack`);
    connection.isFirst = false;
    session.confirm();
    switch (packet.topic) {
      case "$ack":
        return this.#acknowledged(session, number(packet.body));
      case "$ping":
        return connection.write(fixed("$pong", number(packet.body)));
      case "$pong":
        return;
      case "$hello":
        return this.#blame("a second $hello");
    }
    session.received += 1;
    const [, method, id] = packet.topic.split("/");
    if (method === "note") {
      this.history.taken("note", packet.text());
      this.push(session);
    } else if (method === "wrong") {
      const error = { topic: packet.topic, packet: session.received, code: 3, message: "no" };
      this.#queue(session, json("$error", error), 1);
    } else if (id !== undefined) {
      this.#queue(session, frame(packet.topic, packet.body), 1);
    }
    if (this.random() < 0.2) connection.write(fixed("$ack", session.received));
  }

  #acknowledged(session, count) {
    const least = session.written - session.retained.reduce((sum, { n }) => sum + n, 0);
    if (count < least || count > session.written) {
      return this.#blame(`acknowledged ${count}, possible are ${least} to ${session.written}`);
    }
    while (session.retained.length > 0 && session.retained[0].until <= count) session.retained.shift();
  }

  #hello(connection, hello) {
    const { resume } = hello;
    let session = this.sessions.find((s) => [s.current, s.next].includes(resume?.token));
    if (resume !== undefined && session === undefined) {
      const theft = this.sessions.some((s) => s.spent.has(resume.token));
      return this.#blame(theft ? "a spent token" : "a token that never was");
    }
    const resumed = session !== undefined;
    this.#tokens += 1;
    const token = `t-${this.#tokens}`;
    let again = [];
    if (resumed) {
      if (session.next === resume.token) session.confirm();
      session.next = token;
      this.#acknowledged(session, resume.received);
      again = session.retained;
    } else {
      this.fresh += 1;
      session = new GateSession(token);
      this.sessions.push(session);
    }
    session.connection = connection;
    connection.session = session;
    const { received } = session;
    const resumption = { token, window_ms: 120_000 };
    connection.write(json("$welcome", { ...WELCOME, resume: resumption, resumed, received }));
    for (const { frame } of again) connection.write(frame);
  }

  /** Pushes to a session, attached or dormant; now and then a gap. */
  push(session) {
    session.pushed += 1;
    const n = session.pushed;
    if (n % 10 === 5) {
      this.history.sent("push", `gap after ${n}`);
      this.#queue(session, json("$gap", { count: 3, reason: "dropped", after: n }), 3);
    }
    this.history.sent("push", n);
    this.#queue(session, frame("sim/push", String(n)), 1);
  }

  #queue(session, bytes, n) {
    session.written += n;
    session.retained.push({ frame: bytes, until: session.written, n });
    session.connection?.write(bytes);
  }
}

/** Both directions of one connection: `up` and `down` say after how many bytes it is cut. */
export class Wire {
  #clock;
  #random;
  #left;
  #ends = [0, 0];
  isCut = false;

  constructor({ clock, random, up, down, socket, gate, onCut }) {
    this.#clock = clock;
    this.#random = random;
    this.#left = [up, down];
    this.socket = socket;
    this.onCut = onCut;
    const accepted = () => {
      this.gate = gate.accept((bytes) => this.#carry(1, bytes.length + HEAD, () => socket.receive(bytes)));
      this.#carry(1, RESPONSE, () => socket.open());
    };
    this.#carry(0, REQUEST, accepted);
  }

  fromClient(bytes) {
    this.#carry(0, bytes.length + HEAD, () => this.gate.take(bytes));
  }

  /** Something goes one way: whole, behind what went before, or not at all. */
  #carry(way, bytes, arrive) {
    if (this.isCut) return;
    this.#left[way] -= bytes;
    if (this.#left[way] < 0) {
      this.cut();
      return;
    }
    const now = this.#clock.now();
    this.#ends[way] = Math.max(this.#ends[way], now + this.#random() * 20);
    this.#clock.setTimeout(() => this.#mayArrive(way) && arrive(), this.#ends[way] - now);
  }

  /** What is on its way up when the wire is cut may still arrive; what comes down does not. */
  #mayArrive(way) {
    return !this.isCut || (way === 0 && this.#random() < this.upLuck);
  }

  cut() {
    if (this.isCut) return;
    this.isCut = true;
    // All of what is under way arrives, or nothing.
    this.upLuck = Math.round(this.#random());
    this.onCut();
    this.#clock.setTimeout(() => this.socket.lose(), this.#random() * 50);
  }
}

/** A WebSocket constructor whose connections run over wires that `cuts()` cuts. */
export function simulated({ clock, random, gate, cuts, onCut }) {
  return class extends FakeSocket {
    #wire;

    constructor(...args) {
      super(...args);
      this.#wire = new Wire({ clock, random, gate, onCut, socket: this, ...cuts() });
    }

    send(bytes) {
      super.send(bytes);
      this.frames = [];
      if (this.readyState === 1) this.#wire.fromClient(new Uint8Array(bytes));
    }

    receive(bytes) {
      if (this.readyState === 1) super.receive(bytes);
    }

    open() {
      if (this.readyState === 0) super.open();
    }

    close(code, reason) {
      super.close(code, reason);
      this.#wire?.cut();
    }
  };
}
