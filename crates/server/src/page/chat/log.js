// The messages: what was said, what happened, what waits to be sent, what was missed.

import { avatar, element, foreign } from "./page.js";
import { eventWords } from "./words.js";

/** Most entries that are shown; the oldest go. */
const MAX_ENTRIES = 400;
/** Messages of one person within this time, in milliseconds, have their name once. */
const TOGETHER = 3 * 60_000;
/** So many pixels above the end still count as the end. */
const NEAR = 80;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

export class Log {
  #list;
  #newest;
  #entries = [];
  #pending = [];
  #room = "lobby";

  /** `newest` is the button that leads back to the end. */
  constructor(list, newest) {
    this.#list = list;
    this.#newest = newest;
    list.addEventListener("scroll", () => this.#isAtEnd() && (newest.hidden = true));
    newest.addEventListener("click", () => {
      this.#toEnd();
      list.focus();
    });
    new ResizeObserver(() => newest.hidden && this.#toEnd()).observe(list);
  }

  /** For another page to go on with. */
  get kept() {
    return this.#entries.slice(-200);
  }

  /** Begins with what another page kept. */
  begin(entries, room) {
    this.#entries = entries;
    this.#pending = [];
    this.enter(room);
  }

  /** Shows this room's messages, and those that are private. */
  enter(room) {
    this.#room = room;
    this.#render();
    this.#toEnd();
  }

  add(entry) {
    if (entry.kind === "said" && entry.mine) this.#drop(({ text, to }) => !to && text === entry.text);
    this.#keep(() => this.#insert(this.#entries.length, entry));
  }

  /** Adds what is not known yet, in its place. */
  merge(entries) {
    const isSame = (one) => (other) => other.kind === "said" && other.at === one.at && other.room === one.room;
    const missing = entries.filter((one) => !this.#entries.some(isSame(one)));
    this.#keep(() => {
      for (const entry of missing) {
        const after = this.#entries.findIndex(({ at }) => at > entry.at);
        this.#insert(after < 0 ? this.#entries.length : after, entry);
      }
    });
  }

  /** What was missed has come: what comes now is seen as it happens. */
  caughtUp() {
    const at = this.#entries.findLastIndex(({ missed, kind }) => missed || kind === "back");
    const last = this.#entries[at];
    if (last?.missed) this.#keep(() => this.#insert(at + 1, { kind: "back", at: last.at }));
  }

  pending(entry) {
    this.#keep(() => this.#pending.push(entry));
    this.#toEnd();
  }

  /** It is served; `entry` is shown in its place. */
  sent(id, entry) {
    this.#drop((one) => one.id === id);
    if (entry) this.add(entry);
    else this.#keep(() => {});
  }

  failed(id, words) {
    const pending = this.#pending.find((one) => one.id === id);
    if (pending) this.#keep(() => (pending.failed = words));
  }

  #drop(which) {
    const at = this.#pending.findIndex(which);
    if (at >= 0) this.#pending.splice(at, 1);
  }

  #insert(at, entry) {
    this.#entries.splice(at, 0, entry);
    if (this.#entries.length > MAX_ENTRIES) this.#entries.shift();
  }

  /** Changes something; who looks at the end goes on doing so, others stay where they are. */
  #keep(change) {
    const atEnd = this.#isAtEnd();
    const before = this.#entries.length;
    change();
    this.#render();
    if (atEnd) this.#toEnd();
    else if (this.#entries.length > before) this.#newest.hidden = false;
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  #toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#newest.hidden = true;
  }

  // --- the looks

  /** Nodes that are there already stay: a screen reader reads what is added. */
  #render() {
    const shown = [];
    let last = null;
    for (const entry of this.#entries) {
      if (isElsewhere(entry, this.#room)) continue;
      if (entry.missed && !last?.missed) shown.push(this.#node(entry, "away", () => divider("While you were away")));
      const together = isTogether(last, entry);
      const key = together ? "together" : "alone";
      shown.push(this.#node(entry, key, () => line(entry, together)));
      last = entry;
    }
    for (const entry of this.#pending) {
      shown.push(this.#node(entry, `pending ${entry.failed ?? ""}`, () => waiting(entry)));
    }
    if (shown.length === 0) shown.push(element("li", { className: "empty" }, "Nobody has said anything here yet. Say hello, or open this page in a second window."));
    const keep = new Set(shown);
    for (const node of [...this.#list.children]) if (!keep.has(node)) node.remove();
    shown.forEach((node, i) => {
      if (this.#list.children[i] !== node) this.#list.insertBefore(node, this.#list.children[i] ?? null);
    });
  }

  #nodes = new WeakMap();

  #node(entry, key, make) {
    let nodes = this.#nodes.get(entry);
    if (!nodes) this.#nodes.set(entry, (nodes = new Map()));
    if (!nodes.has(key)) nodes.set(key, make());
    return nodes.get(key);
  }
}

const isMessage = ({ kind }) => kind === "said" || kind === "told";

/** Who was sent out reads so where they are now. */
const isElsewhere = ({ kind, room }, here) => room !== undefined && room !== here && kind !== "kicked";

const isTogether = (last, entry) =>
  last !== null &&
  isMessage(last) &&
  last.kind === entry.kind &&
  last.from === entry.from &&
  last.to === entry.to &&
  Boolean(last.mine) === Boolean(entry.mine) &&
  Boolean(last.missed) === Boolean(entry.missed) &&
  entry.at - last.at < TOGETHER;

function divider(words, className = "") {
  return element("li", { className: `divider ${className}` }, element("span", {}, words));
}

function line(entry, together) {
  if (entry.kind === "back") return divider("You are back", "back");
  if (isMessage(entry)) return message(entry, together);
  return element("li", { className: `note ${entry.missed ? "missed" : ""}` }, ...words(entry));
}

/** Names are others' text; what stands between them is ours. */
function words(entry) {
  if (entry.kind === "note") return [entry.text];
  return eventWords(entry.kind, entry).map((part, i) => (part.startsWith(" ") || isOurs(entry, i) ? part : foreign(part)));
}

const isOurs = ({ kind }, i) => kind === "owner" && i !== 1;

function message(entry, together) {
  const { kind, from, to, text, at, mine, missed } = entry;
  const classes = ["message", kind, mine && "mine", missed && "missed", together && "together"];
  const head = element("p", { className: "head" });
  if (mine && kind === "told") head.append("You, privately to ", foreign(to));
  else if (mine) head.append("You");
  else head.append(foreign(from), kind === "told" ? ", privately to you" : "");
  const time = new Date(at);
  head.append(element("time", { datetime: time.toISOString() }, clock.format(time)));
  if (missed) head.append(element("span", { className: "tag" }, "missed"));
  const bubble = element("p", { className: "bubble", dir: "auto" }, text);
  return element(
    "li",
    { className: classes.filter(Boolean).join(" ") },
    mine ? null : avatar(from),
    element("div", { className: "body" }, head, bubble),
  );
}

function waiting({ text, to, failed }) {
  const head = element("p", { className: "head" }, to ? "You, privately to " : "You", to ? foreign(to) : null);
  const bubble = element("p", { className: "bubble", dir: "auto" }, text);
  const how = element("p", { className: failed ? "error" : "wait" }, failed ? `Not sent. ${failed}` : "Waits for the connection");
  return element("li", { className: "message mine pending" }, element("div", { className: "body" }, head, bubble, how));
}
