// The line to the gate, which its user may cut: what a tunnel does to a phone. The client is
// told nothing; it finds its WebSocket gone, and no new one gets through until the line is whole.

/** What a connection that broke tells: WebSocket's own code for it. */
const BROKEN = { code: 1006, reason: "the line is cut" };

export class Line {
  #open = new Set();
  #timer;
  #changed;
  /** When the line is whole again, by `Date.now()`; null while it is. */
  cutUntil = null;

  /** `changed()` is called when the line was cut, and when it is whole again. */
  constructor(changed) {
    this.#changed = changed;
  }

  /** Cuts the line for so many milliseconds. */
  cut(ms) {
    clearTimeout(this.#timer);
    this.cutUntil = Date.now() + ms;
    this.#timer = setTimeout(() => this.mend(), ms);
    for (const wire of [...this.#open]) wire.cut();
    this.#changed();
  }

  /** Makes it whole before its time. */
  mend() {
    if (this.cutUntil === null) return;
    clearTimeout(this.#timer);
    this.cutUntil = null;
    this.#changed();
    // As a phone that leaves the tunnel would say.
    dispatchEvent(new Event("online"));
  }

  /** What the client takes for the browser's `WebSocket`. */
  get WebSocket() {
    const line = this;
    return class {
      constructor(url, protocols) {
        return new Wire(line, url, protocols);
      }
    };
  }

  enter(wire) {
    this.#open.add(wire);
  }

  leave(wire) {
    this.#open.delete(wire);
  }
}

/** A WebSocket through the line. */
class Wire {
  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;
  #line;
  #socket = null;

  constructor(line, url, protocols) {
    this.#line = line;
    if (line.cutUntil !== null) {
      setTimeout(() => this.onclose?.(BROKEN));
      return;
    }
    const socket = new WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.onopen?.();
    socket.onmessage = (event) => this.onmessage?.(event);
    socket.onclose = (event) => {
      line.leave(this);
      this.onclose?.(event);
    };
    this.#socket = socket;
    line.enter(this);
  }

  set binaryType(_) {
    // It is what it has to be.
  }

  send(data) {
    this.#socket?.send(data);
  }

  close(code, reason) {
    if (code === undefined) this.#socket?.close();
    else this.#socket?.close(code, reason);
  }

  cut() {
    const socket = this.#socket;
    this.#socket = null;
    this.#line.leave(this);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.onclose?.(BROKEN);
  }
}
