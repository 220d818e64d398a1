// One WebSocket: frames in and out, heartbeats both ways.

import { decode } from "./codec.js";
import { ping } from "./control.js";
import { ProtocolError } from "./errors.js";

/** Milliseconds for the answer when there is reason to doubt the connection. */
const PROBE = 5000;
/** A timer that fires so much later than it should has slept, with the page or the machine. */
const LATE = 2000;
/** No gate's word makes the heart beat faster, in milliseconds. */
const SHORTEST = 50;
/** The close code of a client whose gate does not keep to the protocol. */
const PROTOCOL_ERROR = 4507;

export class Link {
  #socket;
  #clock;
  #on;
  #timer;
  #due = Infinity;
  #heard;
  #sent;
  #clientMs = Infinity;
  #gateMs = Infinity;
  #probeUntil = Infinity;
  #slept = false;
  #pings = 0;

  /** `on` has `open()`, `packet(packet)`, and, at most once and last, `lost({code, reason})`. */
  constructor({ WebSocket, url, protocols }, clock, on) {
    this.#clock = clock;
    this.#on = on;
    this.#heard = this.#sent = clock.now();
    const socket = protocols === undefined ? new WebSocket(url) : new WebSocket(url, protocols);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => on.open();
    socket.onmessage = ({ data }) => this.#message(data);
    // It says nothing; `onclose` comes behind it. Kept to the end: npm's `ws` throws errors
    // that nobody listens to.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => this.#lose({ code, reason });
  }

  /** Writes a frame. If the connection is on its way out, it is lost with it. */
  send(frame) {
    if (this.#socket === null) return;
    this.#sent = this.#clock.now();
    try {
      this.#socket.send(frame);
    } catch {
      this.#lose({ reason: "the socket takes nothing" });
    }
  }

  /** Keeps up heartbeats from now on. */
  start({ client_ms, gate_ms }) {
    this.#clientMs = Math.max(client_ms, SHORTEST);
    this.#gateMs = Math.max(gate_ms, SHORTEST);
    this.#arm();
  }

  /** Asks for a sign of life, which must come soon. */
  probe() {
    if (this.#socket === null || this.#probeUntil !== Infinity) return;
    this.#probeUntil = this.#clock.now() + PROBE;
    this.#ping();
    this.#arm();
  }

  /** Closes in order, without a further word to the listener. */
  close(code = 1000, reason = "") {
    this.#release()?.close(code, reason);
  }

  /** The same for a connection of which nothing is hoped: it does not wait for the gate. */
  kill() {
    const socket = this.#release();
    // Browsers only know how to close in order, and let go of what is not answered.
    if (typeof socket?.terminate === "function") socket.terminate();
    else socket?.close();
  }

  #release() {
    const socket = this.#socket;
    if (socket === null) return null;
    this.#socket = null;
    this.#clock.clearTimeout(this.#timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
    return socket;
  }

  #message(data) {
    if (this.#socket === null) return;
    this.#heard = this.#clock.now();
    this.#probeUntil = Infinity;
    this.#slept = false;
    try {
      this.#on.packet(decode(data));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#lose({ reason: error.message, violated: true });
    }
  }

  #lose(how) {
    if (this.#socket === null) return;
    if (how.violated) this.close(PROTOCOL_ERROR, "protocol error");
    else this.kill();
    this.#on.lost(how);
  }

  #ping() {
    this.#pings += 1;
    this.send(ping(this.#pings));
  }

  /** When to look again: at what is due first. */
  #arm() {
    if (this.#socket === null) return;
    const silence = Math.min(this.#heard + 2 * this.#gateMs, this.#probeUntil);
    this.#due = Math.min(this.#sent + this.#clientMs, silence);
    this.#clock.clearTimeout(this.#timer);
    const wait = Math.max(0, this.#due - this.#clock.now());
    this.#timer = this.#clock.setTimeout(() => this.#look(), wait);
  }

  #look() {
    const now = this.#clock.now();
    // A clock that was set back must not make silence look short.
    this.#heard = Math.min(this.#heard, now);
    this.#sent = Math.min(this.#sent, now);
    const isSilent = now >= this.#probeUntil || now - this.#heard >= 2 * this.#gateMs;
    if (isSilent && now - this.#due > LATE && !this.#slept) {
      // What has come meanwhile may not have been read yet: once, it gets its chance.
      this.#slept = true;
      this.#probeUntil = now + PROBE;
      this.#heard = now - 2 * this.#gateMs + PROBE;
      this.#ping();
    } else if (isSilent) {
      this.#lose({ reason: "the gate is silent" });
      return;
    } else if (now - this.#sent >= this.#clientMs) {
      this.#ping();
    }
    this.#arm();
  }
}
