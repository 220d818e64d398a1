// The client: what its user sees, and how the parts work together.

import { MAX_FRAME, checkTopic, decode, encode, toBytes } from "./codec.js";
import { Connector } from "./connector.js";
import { ACK_DELAY, ack, bye, hello, pong, readControl } from "./control.js";
import { ClosedError, GateError, OutcomeUnknownError, ProtocolError, TooLargeError } from "./errors.js";
import { Handlers, Subscriptions, stream } from "./events.js";
import { complete } from "./options.js";
import { Outbox } from "./outbox.js";
import { Requests } from "./requests.js";
import { Item, Session } from "./session.js";
import { load, save } from "./storage.js";

const EVENTS = ["state", "gap", "error", "drain", "lost", "unresumable"];

export class Client {
  #options;
  #connector;
  #session = new Session();
  #outbox;
  #requests;
  #handlers = new Handlers();
  #subscriptions = new Subscriptions();
  #welcome = null;
  #maxPacket = MAX_FRAME;
  #ackTimer;
  /** The promise of `connect()`, while it is not kept: `{promise, resolve, reject}`. */
  #wanted = null;
  /** Whether the connection goes on with a session of one before. */
  #isResumed = false;
  /** Of a session that is being prepared; what waits in the second lane waits for that. */
  #preparing = null;

  constructor(url, options = {}) {
    this.#options = complete(url, options);
    const { clock, maxQueued, maxRequests } = this.#options;
    this.#outbox = new Outbox(maxQueued);
    this.#requests = new Requests(clock, maxRequests);
    this.#connector = new Connector(this.#options, {
      hello: () => this.#hello(),
      welcome: (packet) => this.#welcomed(packet),
      packet: (packet) => this.#take(packet),
      lost: (violated) => this.#lost(violated),
      changed: (state) => this.#changed(state),
      leave: (persisted) => this.#leave(persisted),
      back: () => this.#back(),
      isBusy: () => this.#requests.size > 0,
    });
  }

  // --- what the user sees

  get state() {
    return this.#connector.state.state;
  }

  get session() {
    return this.#welcome?.session ?? null;
  }

  get user() {
    return this.#welcome?.user ?? null;
  }

  get resumable() {
    return this.#session.resumption !== null;
  }

  connect() {
    if (this.state === "open") return Promise.resolve(this.#welcome);
    if (this.#wanted === null) {
      const wanted = {};
      wanted.promise = new Promise((resolve, reject) => Object.assign(wanted, { resolve, reject }));
      // Whoever does not wait for it learns of it by the state.
      wanted.promise.catch(() => {});
      this.#wanted = wanted;
    }
    const { promise } = this.#wanted;
    if (!this.#connector.isRunning) {
      this.#restore();
      this.#connector.start();
    }
    return promise;
  }

  async request(method, body, options) {
    return this.#ask(method, body, options);
  }

  send(topic, body) {
    this.#tell(topic, body);
  }

  subscribe(topic, handler) {
    return this.#subscriptions.add(topic, handler);
  }

  on(event, handler) {
    if (!EVENTS.includes(event)) throw new TypeError(`there is no event ${event}`);
    return this.#handlers.add(event, handler);
  }

  states() {
    const isLast = ({ state }) => state === "closed";
    return stream(this.#connector.state, (handler) => this.on("state", handler), isLast);
  }

  close() {
    if (this.state === "closed") return;
    this.#options.clock.clearTimeout(this.#ackTimer);
    // What came is not to count as lost with the session.
    if (this.#session.owed > 0) this.#connector.link?.send(ack(this.#session.tell()));
    // Given up on purpose: it is not reported as lost.
    this.#session.forget();
    this.#outbox.clear();
    this.#connector.stop({ reason: "closed here" }, bye());
  }

  // --- packets out

  async #ask(method, body, { timeout = this.#options.requestTimeout, signal } = {}, lane) {
    signal?.throwIfAborted();
    checkTopic(method);
    const item = this.#queue(this.#requests.topic(method), body, lane);
    const gone = () => this.#outbox.remove(item);
    const answer = this.#requests.wait(item, { timeout, signal }, gone);
    this.#flush();
    return answer;
  }

  #tell(topic, body, lane) {
    checkTopic(topic);
    this.#queue(topic, body, lane);
    this.#flush();
  }

  #queue(topic, body, lane) {
    if (this.state === "closed") throw new ClosedError("the client is closed");
    if (lane?.isOver) throw new ClosedError("the session that was prepared has ended");
    const item = new Item(topic, encode(topic, toBytes(body), this.#maxPacket));
    this.#outbox.push(item, lane !== undefined && lane === this.#preparing);
    return item;
  }

  /** Writes what waits, as far as the gate keeps up with acknowledging. */
  #flush() {
    let link;
    while ((link = this.#connector.link) !== null) {
      const item = this.#outbox.peek(this.#preparing !== null);
      if (item === undefined) return;
      if (item.frame.length > this.#maxPacket) {
        // It was queued before the gate said how much it takes.
        this.#outbox.remove(item);
        const error = new TooLargeError(item.topic, item.frame.length, this.#maxPacket);
        this.#fail(item.topic, error);
        continue;
      }
      const { packets, bytes } = this.#session.unacknowledged;
      const { maxQueued } = this.#options;
      const fits = packets < maxQueued.packets && bytes + item.frame.length <= maxQueued.bytes;
      if (packets > 0 && !fits) return;
      this.#outbox.remove(item);
      this.#session.write(item);
      link.send(item.frame);
    }
  }

  // --- a connection's life

  async #hello() {
    const { auth, agent, device, resume, heartbeat } = this.#options;
    const shown = typeof auth === "function" ? await auth() : auth;
    const session = this.#session.resumeRequest();
    try {
      return hello({ agent, device, resume, auth: shown, heartbeat, session });
    } catch (error) {
      throw new ClosedError("what the client would open with cannot be sent", { cause: error });
    }
  }

  /** Takes the first packet of a connection. */
  #welcomed(packet) {
    const control = readControl(packet);
    if (control?.kind === "$close") return this.#connector.closing(control);
    if (control?.kind !== "$welcome") throw new ProtocolError(`${packet.topic} before $welcome`);
    const before = this.#session.begun;
    this.#isResumed = control.resumed;
    this.#maxPacket = Math.min(control.max_packet, MAX_FRAME);
    const { again, unknown } = this.#session.welcome(control);
    if (again.some((item) => item.frame.length > this.#maxPacket)) {
      throw new ProtocolError("a session resumed where its packets do not fit");
    }
    const { refused = null, resumed } = control;
    this.#welcome = Object.freeze({
      gate: control.gate,
      session: control.session,
      user: control.user ?? null,
      capabilities: control.capabilities ?? [],
      heartbeat: { client: control.heartbeat.client_ms, gate: control.heartbeat.gate_ms },
      maxPacket: this.#maxPacket,
      resumeWindow: control.resume?.window_ms ?? null,
      resumed,
      refused,
    });
    const write = (link) => {
      // First of all: it tells the gate that the new token has come.
      link.send(ack(this.#session.tell()));
      for (const item of again) link.send(item.frame);
      if (!resumed && before) this.#ended(unknown, [], refused);
      if (!resumed) this.#prepare();
      this.#flush();
    };
    return { heartbeat: control.heartbeat, state: { resumed, refused }, write };
  }

  /** Lets the user begin the session, before what waits is sent. */
  #prepare() {
    const { prepare } = this.#options;
    if (prepare === undefined) return;
    const mine = { isOver: false };
    this.#preparing = mine;
    const first = {
      welcome: this.#welcome,
      request: async (method, body, options) => this.#ask(method, body, options, mine),
      send: (topic, body) => this.#tell(topic, body, mine),
    };
    const done = (error) => {
      if (this.#preparing !== mine) return;
      this.#preparing = null;
      if (error !== undefined) this.#handlers.emit("error", error);
      this.#flush();
    };
    new Promise((resolve) => resolve(prepare(first))).then(() => done(), done);
  }

  #lost(violated) {
    this.#options.clock.clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    // A session that leads to an error again and again is not gone on with.
    const isOver = this.#session.resumption === null || (violated && this.#isResumed);
    if (this.#session.begun && isOver) this.#ended(this.#session.forget(), [], null);
  }

  /** A session has ended that the user did not close. */
  #ended(unknown, unsent, refused) {
    this.#requests.failAll((item) => item.written, (topic) => new OutcomeUnknownError(topic));
    if (this.#preparing !== null) {
      this.#preparing.isOver = true;
      this.#preparing = null;
      const error = (topic) => new ClosedError(`${topic}: the session ended before it was sent`);
      const gone = new Set(this.#outbox.clear(true));
      this.#requests.failAll((item) => gone.has(item), error);
    }
    const packets = (items) => items.map((item) => decode(item.frame));
    this.#handlers.emit("lost", { unknown: packets(unknown), unsent: packets(unsent), refused });
  }

  #changed(state) {
    if (state.state === "closed") this.#closed(state);
    this.#handlers.emit("state", state);
    const wanted = this.#wanted;
    if (wanted === null) return;
    if (state.state === "open") wanted.resolve(this.#welcome);
    else if (state.state === "closed") wanted.reject(closedError(state));
    else return;
    this.#wanted = null;
  }

  #closed(state) {
    this.#welcome = null;
    const unsent = this.#outbox.clear();
    const { begun } = this.#session;
    const unknown = this.#session.forget();
    if (begun || unsent.length > 0) this.#ended(unknown, unsent, null);
    this.#preparing = null;
    const all = () => true;
    this.#requests.failAll(all, (topic) => closedError(state, topic));
  }

  // --- packets in

  #take(packet) {
    const control = this.#session.take(packet);
    if (control === undefined) {
      if (!this.#requests.answer(packet)) this.#subscriptions.emit(packet);
    } else if (control !== null) {
      this.#control(control);
    }
    this.#acknowledge();
  }

  #control(control) {
    switch (control.kind) {
      case "$ack":
        return this.#flush();
      case "$ping":
        return this.#connector.link?.send(pong(control.body));
      case "$error": {
        const { code, message: text, topic } = control;
        return this.#fail(topic, new GateError({ code, text, topic }));
      }
      case "$gap":
        return this.#handlers.emit("gap", { count: control.count, reason: control.reason });
      case "$token":
        if (this.resumable) return;
        return this.#handlers.emit("unresumable", control.refused ?? null);
      case "$drain":
        this.#connector.drain(control);
        return this.#handlers.emit("drain", {
          deadline: control.deadline_ms,
          retryAfter: control.retry_after_ms,
        });
      case "$close":
        return this.#connector.closing(control);
    }
  }

  /** Tells whoever sent the packet of this topic. */
  #fail(topic, error) {
    if (!this.#requests.fail(topic, error)) this.#handlers.emit("error", error);
  }

  /** Acknowledges what was taken: at once if it is much, else a little later. */
  #acknowledge() {
    const { clock } = this.#options;
    const { link } = this.#connector;
    if (link === null || this.#session.owed === 0) return;
    const tell = () => {
      clock.clearTimeout(this.#ackTimer);
      this.#ackTimer = undefined;
      if (this.#session.owed > 0) this.#connector.link?.send(ack(this.#session.tell()));
    };
    if (this.#session.isAckDue) tell();
    else this.#ackTimer ??= clock.setTimeout(tell, ACK_DELAY);
  }

  // --- the page

  /** The page leaves. With a storage the session waits for it there. */
  #leave(persisted) {
    const { storage, url } = this.#options;
    if (storage && this.resumable && this.#preparing === null) {
      try {
        storage.set(save(url, this.#session, this.#outbox.items(), this.#requests));
        this.#connector.pause();
        return;
      } catch {
        // Too much for it, perhaps.
      }
    }
    // It can be kept in memory, or nobody will come back for it.
    if (!persisted) this.close();
  }

  /** The page is back from the browser's cache; another may have taken the session. */
  #back() {
    if (!this.#connector.isPaused) return;
    if (this.#stored() === null) this.#ended(this.#session.forget(), [], null);
    this.#connector.resume();
  }

  #restore() {
    const saved = this.#stored();
    if (saved === null || this.#session.begun || !this.#options.resume) return;
    this.#session.restore(saved.session);
    this.#requests.prefix = saved.prefix;
    this.#requests.last = saved.last;
    const newer = this.#outbox.clear();
    for (const item of saved.waiting) this.#outbox.push(item);
    for (const item of newer) this.#outbox.push(item);
  }

  /** Takes out of the storage what is there: no second page must find it. */
  #stored() {
    const { storage, url } = this.#options;
    if (!storage) return null;
    try {
      const text = storage.get();
      storage.remove();
      return text ? load(text, url) : null;
    } catch {
      return null;
    }
  }
}

function closedError({ code, reason, error }, topic) {
  const why = topic === undefined ? reason : `${topic}: ${reason}`;
  return new ClosedError(why, { code, cause: error });
}
