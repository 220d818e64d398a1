// A session as text, for the same page after a reload.

import { decode } from "./codec.js";
import { Item } from "./session.js";

const FORMAT = 1;

/** The text of a session, of what waits with it, and of the ids that are in use. */
export function save(url, session, waiting, { prefix, last }) {
  const { sent, ...counts } = session.save();
  return JSON.stringify({
    format: FORMAT,
    url,
    ...counts,
    sent: sent.map(toText),
    waiting: waiting.map(toText),
    prefix,
    last,
  });
}

/** Reads what {@link save} wrote for this URL; null for anything else. */
export function load(text, url) {
  try {
    const saved = JSON.parse(text);
    if (saved.format !== FORMAT || saved.url !== url) return null;
    const { resumption, received, acknowledged, prefix, last } = saved;
    const isGood =
      typeof resumption.token === "string" &&
      [received, acknowledged, last].every(Number.isSafeInteger) &&
      /^[0-9a-z]{4}-$/.test(prefix);
    if (!isGood) return null;
    const sent = saved.sent.map((item) => fromText(item, true));
    const waiting = saved.waiting.map((item) => fromText(item, false));
    return { session: { resumption, received, acknowledged, sent }, waiting, prefix, last };
  } catch {
    return null;
  }
}

function toText({ frame }) {
  let binary = "";
  for (const byte of frame) binary += String.fromCharCode(byte);
  return btoa(binary);
}

function fromText(text, written) {
  const frame = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const item = new Item(decode(frame).topic, frame);
  item.written = written;
  return item;
}
