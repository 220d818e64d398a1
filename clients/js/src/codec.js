// The frame: total, topic length (16 bits, little-endian), topic, body.

import { ProtocolError, TooLargeError } from "./errors.js";

/** Largest frame that its 16 bits can announce, in bytes. */
export const MAX_FRAME = 65535;
const HEAD = 4;

const encoder = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/** Topic and body. */
export class Packet {
  constructor(topic, body) {
    this.topic = topic;
    this.body = body;
  }

  /** The body as UTF-8; what is not becomes U+FFFD. */
  text() {
    return lenient.decode(this.body);
  }

  /** The body as JSON. Throws SyntaxError if it is not. */
  json() {
    return JSON.parse(this.text());
  }
}

/** Bytes as they are, text as UTF-8, nothing as nothing, and all else as JSON. */
export function toBytes(body) {
  if (body === undefined) return new Uint8Array(0);
  if (typeof body === "string") return encoder.encode(body);
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  if (ArrayBuffer.isView(body)) {
    return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  }
  const json = JSON.stringify(body);
  if (json === undefined) throw new TypeError(`a ${typeof body} is no body of a packet`);
  return encoder.encode(json);
}

/** Refuses what no packet of a user may have as its topic. */
export function checkTopic(topic) {
  if (typeof topic !== "string" || topic === "") throw new TypeError("a topic is needed");
  if (topic.startsWith("$")) throw new TypeError("topics that begin with $ are the protocol's");
  if (CONTROL.test(topic) || LONE_SURROGATE.test(topic)) {
    throw new TypeError("a topic has no control characters and no half characters");
  }
}

/** The frame of a packet: a copy, whatever becomes of `body`. */
export function encode(topic, body, max = MAX_FRAME) {
  const name = encoder.encode(topic);
  const total = HEAD + name.length + body.length;
  if (total > max) throw new TooLargeError(topic, total, max);
  const frame = new Uint8Array(total);
  const view = new DataView(frame.buffer);
  view.setUint16(0, total, true);
  view.setUint16(2, name.length, true);
  frame.set(name, HEAD);
  frame.set(body, HEAD + name.length);
  return frame;
}

/** The packet of a frame. Its body is a view of `data`. */
export function decode(data) {
  if (!(data instanceof ArrayBuffer)) {
    if (!(data instanceof Uint8Array)) throw new ProtocolError("a message that is not binary");
    return decodeBytes(data);
  }
  return decodeBytes(new Uint8Array(data));
}

function decodeBytes(bytes) {
  if (bytes.length <= HEAD) throw new ProtocolError("a frame without a topic");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint16(0, true) !== bytes.length) {
    throw new ProtocolError("a frame of another length than it says");
  }
  const end = HEAD + view.getUint16(2, true);
  if (end === HEAD || end > bytes.length) throw new ProtocolError("a topic that is not there");
  let topic;
  try {
    topic = strict.decode(bytes.subarray(HEAD, end));
  } catch {
    throw new ProtocolError("a topic that is not UTF-8");
  }
  if (CONTROL.test(topic)) throw new ProtocolError("a topic with control characters");
  return new Packet(topic, bytes.subarray(end));
}

/** The body of a control packet that is an integer. */
export function integer(n) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(n), true);
  return bytes;
}

/** Reads what {@link integer} writes. */
export function readInteger(body) {
  if (body.length !== 8) throw new ProtocolError(`a body of ${body.length} bytes, 8 are needed`);
  const view = new DataView(body.buffer, body.byteOffset, 8);
  return toCount(Number(view.getBigUint64(0, true)));
}

/** A count that can be counted exactly; no session gets beyond. */
export function toCount(n) {
  if (!Number.isSafeInteger(n) || n < 0) throw new ProtocolError("a count that cannot be");
  return n;
}

/** JSON in a control packet's body. */
export function readJson(body) {
  let value;
  try {
    value = JSON.parse(strict.decode(body));
  } catch {
    throw new ProtocolError("a body that is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ProtocolError("a body that is not a JSON object");
  }
  return value;
}
