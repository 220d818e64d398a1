// The chat without its looks: one client, who one is, where, who else is there.

import { Client, GateError } from "/client/index.js";
import { Line } from "./line.js";
import { errorWords } from "./words.js";

/** How long "Cut the connection" cuts it, in milliseconds. */
const CUT = 10_000;
/** How often the lists of rooms and people are looked at anyway, in milliseconds. */
const LOOK_EVERY = 5000;
/** Events in a row lead to one look. */
const LOOK_AFTER = 120;

const FOREVER = { timeout: Infinity };

/** The session between two pages. */
const SESSION = "tidegate-session";
const storage = {
  get: () => sessionStorage.getItem(SESSION),
  set: (text) => sessionStorage.setItem(SESSION, text),
  remove: () => sessionStorage.removeItem(SESSION),
};

export class Chat {
  #client;
  #line;
  #show;
  #looking;
  #soon;
  #now = { state: "idle" };
  #since = 0;
  #catchingUp = false;
  #missed = { messages: 0, packets: 0, gaps: 0 };
  #messages = 0;
  /** Who one is, and where. */
  name;
  room;
  /** Who else is there, everywhere, and which rooms there are. */
  people = [];
  count = 0;
  rooms = [];

  /**
   * `show` is told of everything: `state()`, `lists()`, `moved()`, `entry(entry)`,
   * `history(entries)`, `caughtUp(messages)`, `pending(entry)`, `sent(id, entry)`,
   * `failed(id, words)`, and `refused(words)` when nobody is logged in.
   */
  constructor(url, { name, room = "lobby" }, show) {
    this.name = name;
    this.room = room;
    this.#show = show;
    this.#line = new Line(() => show.state());
    this.#client = new Client(url, {
      WebSocket: this.#line.WebSocket,
      storage,
      // Short, so that a line that has gone silent is soon known to be lost, here and there.
      heartbeat: { client: 5000, gate: 5000 },
      backoff: { base: 400, cap: 5000 },
      prepare: (first) => this.#begin(first),
    });
    this.#client.on("state", (state) => this.#changed(state));
    this.#client.on("lost", ({ refused }) => this.#lost(refused));
    this.#client.on("gap", ({ count }) => (this.#missed.gaps += count));
    this.#client.on("error", (error) => this.#note(errorWords(error)));
    this.#client.subscribe("chat/", (packet) => this.#pushed(packet));
  }

  /** Connects; after the end as well. */
  start() {
    this.#client.connect().catch(() => {});
    clearInterval(this.#looking);
    this.#looking = setInterval(() => document.hidden || this.#look(), LOOK_EVERY);
  }

  /** Says goodbye. */
  leave() {
    clearInterval(this.#looking);
    clearTimeout(this.#soon);
    this.#client.close();
  }

  /** All that is to be known of the connection. */
  get state() {
    return {
      state: this.#now,
      since: this.#since,
      cutUntil: this.#line.cutUntil,
      resumable: this.#client.resumable,
      catchingUp: this.#catchingUp,
      missed: this.#missed,
    };
  }

  /** Whether the room is one's own. */
  get isOwner() {
    return this.rooms.some(({ room, owner }) => room === this.room && owner === this.name);
  }

  cut() {
    this.#line.cut(CUT);
  }

  mend() {
    this.#line.mend();
  }

  // --- what one does

  say(text) {
    return this.#send({ text }, "chat/say", { text }, () => undefined);
  }

  tell(to, text) {
    const told = () => ({ kind: "told", to, text, mine: true, at: Date.now() });
    return this.#send({ text, to }, "chat/tell", { to, text }, told);
  }

  async #send(shown, method, body, done) {
    this.#messages += 1;
    const id = this.#messages;
    this.#show.pending({ id, ...shown });
    try {
      await this.#client.request(method, body, FOREVER);
      this.#show.sent(id, done());
    } catch (error) {
      this.#show.failed(id, errorWords(error));
    }
  }

  async join(room) {
    const answer = await this.#client.request("chat/join", { room });
    await this.#arrive(answer.json().room);
  }

  async rename(name) {
    const answer = await this.#client.request("chat/rename", { name });
    this.name = answer.json().name;
    this.#show.lists();
    this.#lookSoon();
  }

  async kick(name) {
    await this.#client.request("chat/kick", { name });
    this.#lookSoon();
  }

  // --- the session

  /** A session begins: log in, and go where one was. */
  async #begin(first) {
    try {
      const welcome = await first.request("chat/login", { name: this.name });
      this.name = welcome.json().name;
    } catch (error) {
      // Otherwise the session has ended already, and the next will try.
      if (error instanceof GateError) setTimeout(() => this.#refused(errorWords(error)));
      return;
    }
    if (this.room === "lobby") return;
    try {
      const answer = await first.request("chat/join", { room: this.room });
      this.room = answer.json().room;
    } catch (error) {
      this.room = "lobby";
      this.#note(errorWords(error));
    }
  }

  #refused(words) {
    this.leave();
    this.#show.refused(words);
  }

  #changed(state) {
    this.#now = state;
    this.#since = Date.now();
    if (state.state === "open") {
      if (state.resumed) this.#catchUp();
      else this.#open();
    }
    this.#show.state();
  }

  async #open() {
    this.#catchingUp = false;
    try {
      await this.#whoAmI();
      await this.#arrive(this.room);
    } catch {
      // The session has ended already.
    }
  }

  /**
   * The session goes on. What was missed comes before the answer to whatever is asked now:
   * so all that comes until then was missed.
   */
  async #catchUp() {
    if (this.#catchingUp) return;
    this.#catchingUp = true;
    this.#missed = { messages: 0, packets: 0, gaps: 0 };
    try {
      await this.#whoAmI();
    } catch (error) {
      if (error instanceof GateError) this.#refused("Your session has ended.");
      return;
    } finally {
      this.#catchingUp = false;
      this.#show.caughtUp(this.#missed.messages);
      this.#show.state();
    }
    this.#look();
  }

  async #whoAmI() {
    const answer = await this.#client.request("chat/me", undefined, FOREVER);
    const { name, room } = answer.json();
    const moved = room !== this.room;
    Object.assign(this, { name, room });
    if (moved) this.#show.moved();
  }

  #lost(refused) {
    const why = refused ? ` (${refused.text})` : "";
    this.#note(`Your session has ended${why}. This is a new one.`);
  }

  // --- what others do

  #pushed(packet) {
    const kind = packet.topic.slice("chat/".length);
    let body;
    try {
      body = packet.json();
    } catch {
      return;
    }
    const mine = body.from === this.name;
    const missed = this.#catchingUp && !mine && kind !== "away";
    if (missed) this.#missed.packets += 1;
    if (missed && (kind === "said" || kind === "told")) this.#missed.messages += 1;
    this.#lookSoon();
    if (kind === "away" || (kind === "left" && body.name === this.name)) return;
    if (kind === "renamed" && body.was === this.name) this.name = body.name;
    this.#show.entry({ at: Date.now(), ...body, kind, missed, mine });
    if (kind === "kicked") this.#arrive("lobby").catch(() => {});
  }

  #note(text) {
    this.#show.entry({ kind: "note", text, at: Date.now() });
  }

  // --- where one is, and who else is there

  /** One is in this room now: shows what was said there last. */
  async #arrive(room) {
    this.room = room;
    this.#show.moved();
    this.#lookSoon();
    const answer = await this.#client.request("chat/history");
    const { said, room: of } = answer.json();
    if (of !== this.room) return;
    this.#show.history(said.map((one) => ({ ...one, kind: "said", mine: one.from === this.name })));
  }

  #lookSoon() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.#look(), LOOK_AFTER);
  }

  async #look() {
    if (this.#client.state !== "open" || this.#catchingUp) return;
    try {
      const asked = ["chat/rooms", "chat/who"].map((method) => this.#client.request(method));
      const [rooms, who] = (await Promise.all(asked)).map((answer) => answer.json());
      this.rooms = rooms.rooms;
      this.people = who.people;
      this.count = who.count;
      this.#show.lists();
    } catch {
      // It is asked again.
    }
  }
}
