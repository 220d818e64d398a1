// The control packets: those of the gate read and checked, those of the client written.

import { encode, integer, readInteger, readJson, toBytes } from "./codec.js";
import { ProtocolError } from "./errors.js";

/** The version of the extended protocol that is spoken here. */
export const VERSION = 1;
/** Packets after which a side acknowledges at the latest. */
export const ACK_PACKETS = 16;
/** Milliseconds after which a side acknowledges at the latest. */
export const ACK_DELAY = 1000;
/** Longest `agent` and `device`, in bytes. */
export const MAX_NAME = 128;
/** The capability of sessions that outlive their connection. */
export const RESUME = "resume";

/** The frame of a `$hello`; fields that are undefined are left out. */
export function hello({ agent, device, resume, auth, heartbeat, session }) {
  const body = {
    versions: [VERSION],
    agent,
    device,
    capabilities: resume ? [RESUME] : undefined,
    auth,
    heartbeat: heartbeat && { client_ms: heartbeat.client, gate_ms: heartbeat.gate },
    resume: session,
  };
  return encode("$hello", toBytes(body));
}

export const ack = (count) => encode("$ack", integer(count));
export const ping = (n) => encode("$ping", integer(n));
export const pong = (body) => encode("$pong", body);
export const bye = () => encode("$bye", new Uint8Array(0));

const text = (value) => typeof value === "string";
const flag = (value) => typeof value === "boolean";
const count = (value) => Number.isSafeInteger(value) && value >= 0;
const code = (value) => count(value) && value <= 0xffff;
const list = (value) => Array.isArray(value) && value.every(text);
const object = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Takes the known fields of a JSON object. A name that ends with `?` need not be there. */
function fields(value, kinds) {
  const found = {};
  for (const [name, kind] of Object.entries(kinds)) {
    const key = name.replace("?", "");
    const field = Object.hasOwn(value, key) ? value[key] : undefined;
    if ((field === undefined || field === null) && name.endsWith("?")) continue;
    const good = typeof kind === "function" ? kind(field) : object(field);
    if (!good) throw new ProtocolError(`${key} is missing, or not what it should be`);
    found[key] = typeof kind === "function" ? field : fields(field, kind);
  }
  return found;
}

const refused = { code, text };
const BODIES = {
  $welcome: {
    version: code,
    gate: text,
    session: text,
    "user?": text,
    "capabilities?": list,
    heartbeat: { client_ms: count, gate_ms: count },
    max_packet: count,
    "resume?": { token: text, window_ms: count },
    resumed: flag,
    "refused?": refused,
    received: count,
  },
  $error: { topic: text, packet: count, code, message: text },
  $gap: { count, reason: text },
  $token: { "token?": text, "refused?": refused },
  $drain: { deadline_ms: count, retry_after_ms: count },
  $close: { code, text, reconnect: flag, "retry_after_ms?": count },
};

/**
 * Reads a gate's packet whose topic begins with `$`: `{kind, …}` with the fields of
 * docs/protocol.md. Undefined for one that this version does not know.
 */
export function readControl(packet) {
  switch (packet.topic) {
    case "$ping":
    case "$pong":
      // Echoed as it is; only its length matters.
      if (packet.body.length !== 8) throw new ProtocolError(`a ${packet.topic} without 8 bytes`);
      return { kind: packet.topic, body: packet.body };
    case "$ack":
      return { kind: "$ack", count: readInteger(packet.body) };
  }
  const kinds = Object.hasOwn(BODIES, packet.topic) ? BODIES[packet.topic] : undefined;
  if (kinds === undefined) return undefined;
  const control = fields(readJson(packet.body), kinds);
  if (packet.topic === "$welcome" && control.version !== VERSION) {
    throw new ProtocolError(`version ${control.version} was not asked for`);
  }
  return { kind: packet.topic, ...control };
}
