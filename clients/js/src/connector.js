// When to connect, and when to wait: attempts, back-off, network, page, the gate's wishes.

import { Backoff, MAX_RETRY_AFTER } from "./backoff.js";
import { isFinal } from "./codes.js";
import { ClosedError, printable } from "./errors.js";
import { Link } from "./link.js";
import { Network } from "./network.js";

/** Milliseconds that a connection must last for the next attempt to be the first again. */
const STABLE = 5000;
/** A drained gate is left when nothing is under way, or so many milliseconds before it closes. */
const MARGIN = 1000;
/** How often to look whether something is under way, in milliseconds. */
const LOOK_EVERY = 100;

export class Connector {
  #options;
  #clock;
  #host;
  #network;
  #backoff;
  #state = { state: "idle" };
  /** Counts attempts, so that what belongs to an earlier one is known. */
  #turn = 0;
  #link = null;
  /** `#link` has been welcomed. */
  #isOpen = false;
  #timer;
  #drainTimer;
  #openSince = null;
  #lostSince = null;
  /** Not before this time, because the gate asked for it; and when the timer fires. */
  #notBefore = 0;
  #retryAt = 0;
  #isPaused = false;

  /**
   * `host` is asked for the frame of a `$hello` (`hello()`), takes the first packet
   * (`welcome(packet, link)`) and the others (`packet(packet)`), hears of a link's end
   * (`lost(violated)`), of states (`changed(state)`), of the page (`leave(persisted)`,
   * `back()`), and says whether something is under way (`isBusy()`).
   */
  constructor(options, host) {
    this.#options = options;
    this.#clock = options.clock;
    this.#host = host;
    this.#backoff = new Backoff(options.backoff, () => this.#clock.random());
    this.#network = new Network(options.page, (news, more) => this.#hear(news, more));
  }

  get state() {
    return this.#state;
  }

  /** The link, if it is open. */
  get link() {
    return this.#isOpen ? this.#link : null;
  }

  get isRunning() {
    return !["idle", "closed"].includes(this.#state.state);
  }

  start() {
    this.#network.start();
    this.#backoff.reset();
    this.#lostSince = null;
    this.#connect();
  }

  /** Stops for good; `frame` is a last word to the gate. */
  stop(state, frame) {
    this.#network.stop();
    if (frame !== undefined) this.link?.send(frame);
    this.#leave();
    this.#change({ state: "closed", ...state });
  }

  get isPaused() {
    return this.#isPaused;
  }

  /** Lets go of the connection until {@link resume}: the page leaves. */
  pause() {
    this.#leave();
    this.#isPaused = true;
    this.#change({ state: "offline", attempt: 0, reason: "the page was left" });
  }

  resume() {
    this.#connect();
  }

  /** The gate has said why it closes. */
  closing({ code, text, reconnect, retry_after_ms: retryAfter }) {
    const how = { code, reason: text };
    if (!reconnect) return this.#end(how);
    this.#leave();
    this.#lost(how, retryAfter);
  }

  /** The gate will close: go before it does, when nothing is under way. */
  drain({ deadline_ms, retry_after_ms }) {
    const [deadline, retryAfter] = [deadline_ms, retry_after_ms].map((ms) => Math.min(ms, MAX_RETRY_AFTER));
    const room = Math.max(0, deadline - retryAfter - MARGIN);
    const last = this.#clock.now() + Math.max(0, deadline - MARGIN);
    const jitter = this.#clock.random() * Math.min(room / 2, this.#options.backoff.cap);
    const look = () => {
      if (this.#host.isBusy() && this.#clock.now() < last) return later(LOOK_EVERY);
      this.#leave();
      const turn = this.#turn;
      this.#host.lost(false);
      if (turn === this.#turn) this.#connect();
    };
    const later = (ms) => {
      this.#clock.clearTimeout(this.#drainTimer);
      this.#drainTimer = this.#clock.setTimeout(look, Math.min(ms, deadline));
    };
    later(retryAfter + jitter);
  }

  async #connect() {
    this.#leave();
    const turn = this.#turn;
    const isMine = () => turn === this.#turn;
    this.#change({ state: "connecting", attempt: this.#backoff.attempt });
    if (!isMine()) return;
    const { connectTimeout, url, protocols, WebSocket } = this.#options;
    const late = () => this.#fail({ reason: "no connection in time" });
    this.#timer = this.#clock.setTimeout(late, connectTimeout);
    let hello;
    try {
      hello = await this.#host.hello();
    } catch (error) {
      if (!isMine()) return;
      // Its own kind of error: a value that cannot be sent will not be better next time.
      if (error instanceof ClosedError) this.#end({ reason: error.message, error: error.cause });
      else this.#fail({ reason: "no authentication to show", error });
      return;
    }
    if (!isMine()) return;
    try {
      const link = new Link({ WebSocket, url, protocols }, this.#clock, {
        open: () => link.send(hello),
        packet: (packet) => this.#packet(packet, link),
        lost: (how) => this.#fail(how),
      });
      this.#link = link;
    } catch (error) {
      this.#end({ reason: "the connection cannot be tried", error });
    }
  }

  #packet(packet, link) {
    if (this.#isOpen) return this.#host.packet(packet);
    const opened = this.#host.welcome(packet);
    if (opened === undefined) return;
    const turn = this.#turn;
    this.#clock.clearTimeout(this.#timer);
    this.#isOpen = true;
    this.#openSince = this.#clock.now();
    this.#lostSince = null;
    this.#notBefore = 0;
    link.start(opened.heartbeat);
    opened.write(link);
    if (turn === this.#turn) this.#change({ state: "open", attempt: this.#backoff.attempt, ...opened.state });
  }

  /** Lets go of what there is: link, timers, an attempt under way. */
  #leave(how = "close") {
    this.#turn += 1;
    this.#isOpen = this.#isPaused = false;
    this.#clock.clearTimeout(this.#timer);
    this.#clock.clearTimeout(this.#drainTimer);
    const link = this.#link;
    this.#link = null;
    link?.[how]();
  }

  #fail(how) {
    this.#leave("kill");
    if (isFinal(how.code)) this.#end(how);
    else this.#lost(how);
  }

  /** The gate, or the options, leave no hope. */
  #end({ code, reason, error }) {
    this.#leave();
    this.#network.stop();
    const turn = this.#turn;
    this.#host.lost(false);
    if (turn !== this.#turn) return;
    this.#change({ state: "closed", code, reason: printable(reason ?? ""), error });
  }

  #lost({ code, reason, violated = false, error }, wish = 0) {
    const retryAfter = Math.min(wish, MAX_RETRY_AFTER);
    const now = this.#clock.now();
    if (this.#openSince !== null && now - this.#openSince >= STABLE) this.#backoff.reset();
    this.#openSince = null;
    this.#lostSince ??= now;
    this.#notBefore = retryAfter > 0 ? now + retryAfter : 0;
    const turn = this.#turn;
    this.#host.lost(violated);
    if (turn !== this.#turn) return;
    const why = { code, reason: printable(reason ?? ""), error };
    const delay = this.#backoff.next(retryAfter);
    if (!this.#network.online) {
      // Browsers have been wrong about it: now and then it is tried all the same.
      this.#wait(Math.max(this.#options.backoff.cap, delay), { state: "offline", ...why });
    } else {
      this.#wait(delay, { state: "waiting", ...why });
    }
  }

  #wait(delay, state) {
    this.#retryAt = this.#clock.now() + delay;
    this.#clock.clearTimeout(this.#timer);
    this.#timer = this.#clock.setTimeout(() => this.#retry(), delay);
    this.#change({ ...state, attempt: this.#backoff.attempt, delay });
  }

  #retry() {
    const away = this.#clock.now() - (this.#lostSince ?? this.#clock.now());
    if (this.#network.hidden && away > this.#options.maxHidden) {
      this.#retryAt = Infinity;
      this.#change({ state: "offline", attempt: this.#backoff.attempt, reason: "hidden" });
    } else {
      this.#connect();
    }
  }

  #hear(news, more) {
    switch (news) {
      case "leave":
        return this.#host.leave(more);
      case "back":
        return this.#host.back();
      case "down":
        return this.link?.probe();
      case "up":
        if (this.#isPaused) return;
        if (this.#isOpen) this.#link.probe();
        else if (["waiting", "offline"].includes(this.#state.state)) this.#hurry();
    }
  }

  /** There is hope: no more back-off, but for what the gate asked for, and jitter. */
  #hurry() {
    const now = this.#clock.now();
    const delay = Math.max(0, this.#notBefore - now) + this.#backoff.soon();
    if (now + delay >= this.#retryAt) return;
    const { code, reason } = this.#state;
    this.#wait(delay, { state: "waiting", code, reason });
  }

  #change(state) {
    for (const key of Object.keys(state)) if (state[key] === undefined) delete state[key];
    this.#state = Object.freeze(state);
    this.#host.changed(this.#state);
  }
}

