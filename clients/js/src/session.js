// A session across its connections: what was taken, what was written and not acknowledged,
// and the token to go on with. No socket, no clock.

import { readControl } from "./control.js";
import { toCount } from "./codec.js";
import { ACK_PACKETS } from "./control.js";
import { ProtocolError } from "./errors.js";

/** What waits to be written, or was. */
export class Item {
  constructor(topic, frame) {
    this.topic = topic;
    this.frame = frame;
    this.written = false;
  }
}

export class Session {
  /** Whether a `$welcome` has begun one that is not over. */
  begun = false;
  /** How to go on with it later: `{token, window_ms}`, or null. */
  resumption = null;
  /** The gate's packets that were taken, and of those the ones that it has been told of. */
  #received = 0;
  #told = 0;
  /** Written and not acknowledged, oldest first: those after `#acknowledged`. */
  #sent = [];
  #acknowledged = 0;
  #bytes = 0;

  /** Packets and bytes that were written and not acknowledged. */
  get unacknowledged() {
    return { packets: this.#sent.length, bytes: this.#bytes };
  }

  /** What a `$hello` says of the session to go on with; undefined for none. */
  resumeRequest() {
    if (this.resumption === null) return undefined;
    this.#told = this.#received;
    return { token: this.resumption.token, received: this.#received };
  }

  /**
   * Takes the answer to `$hello`. If the session goes on, `again` is what is to be written
   * again before all else. If not, `unknown` is what was written in the one before, and it is
   * not known what came of it.
   */
  welcome(welcome) {
    if (welcome.resumed && this.resumption === null) {
      throw new ProtocolError("a session resumed that was not asked for");
    }
    let again = [];
    let unknown = [];
    if (welcome.resumed) {
      this.#acknowledge(welcome.received);
      again = [...this.#sent];
    } else {
      unknown = this.forget();
    }
    this.begun = true;
    this.resumption = welcome.resume ?? null;
    return { again, unknown };
  }

  /** The session is over. Answers what was written without being acknowledged. */
  forget() {
    const unknown = this.#sent;
    this.begun = false;
    this.resumption = null;
    this.#received = this.#told = this.#acknowledged = this.#bytes = 0;
    this.#sent = [];
    return unknown;
  }

  /** Notes a packet that is being written for the first time. */
  write(item) {
    item.written = true;
    this.#sent.push(item);
    this.#bytes += item.frame.length;
  }

  /**
   * Takes a packet of the gate, behind its `$welcome`: the control packet that it is, or
   * undefined for a packet of a service, or null for one that means nothing here.
   */
  take(packet) {
    if (!packet.topic.startsWith("$")) {
      this.#count(1);
      return undefined;
    }
    const control = readControl(packet);
    switch (control?.kind) {
      case undefined:
        return null;
      case "$welcome":
        throw new ProtocolError("a second $welcome");
      case "$ack":
        this.#acknowledge(control.count);
        break;
      case "$error":
        this.#count(1);
        break;
      case "$gap":
        this.#count(control.count);
        break;
      case "$token":
        this.resumption =
          control.token !== undefined && this.resumption !== null
            ? { ...this.resumption, token: control.token }
            : null;
        break;
    }
    return control;
  }

  #count(packets) {
    this.#received = toCount(this.#received + packets);
  }

  /** The gate has taken `count` packets of the client. */
  #acknowledge(count) {
    const done = count - this.#acknowledged;
    if (done < 0 || done > this.#sent.length) {
      const most = this.#acknowledged + this.#sent.length;
      throw new ProtocolError(`${count} acknowledged, possible are ${this.#acknowledged} to ${most}`);
    }
    for (const item of this.#sent.splice(0, done)) this.#bytes -= item.frame.length;
    this.#acknowledged = count;
  }

  /** Packets of the gate that it has not been told of. */
  get owed() {
    return this.#received - this.#told;
  }

  /** Whether so many packets came that they should be acknowledged now. */
  get isAckDue() {
    return this.owed >= ACK_PACKETS;
  }

  /** The count to acknowledge. */
  tell() {
    this.#told = this.#received;
    return this.#received;
  }

  /** All of it, for another page to go on with; see {@link restore}. */
  save() {
    return {
      resumption: this.resumption,
      received: this.#received,
      acknowledged: this.#acknowledged,
      sent: this.#sent,
    };
  }

  /** Goes on with what {@link save} gave. */
  restore({ resumption, received, acknowledged, sent }) {
    this.begun = true;
    this.resumption = resumption;
    this.#received = this.#told = toCount(received);
    this.#acknowledged = toCount(acknowledged);
    this.#sent = sent;
    this.#bytes = sent.reduce((sum, item) => sum + item.frame.length, 0);
  }
}
