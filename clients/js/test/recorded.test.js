// Frames on record: what this client writes is read by the gate's protocol crate in Rust
// (crates/protocol/tests/recorded.rs), and what that writes is read here.
//
// TIDEGATE_TEST_WRITE=1 writes this client's record anew.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { decode } from "../src/codec.js";
import * as control from "../src/control.js";
import { settle, setUp } from "./support/fake.js";
import { ROOT } from "./support/tools.js";

const file = (name) => `${ROOT}tests/data/${name}`;
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const unhex = (text) => Uint8Array.from(Buffer.from(text, "hex"));

/** Two connections of one session, in which everything is sent that a client may send. */
async function scenario() {
  const options = {
    agent: "recorded/1.0",
    device: "phone-7f",
    auth: () => ({ token: "eyJ…", roles: [1, null, true] }),
    heartbeat: { client: 2000, gate: 3000 },
  };
  const fake = setUp(options);
  const { client, clock, last, sockets, frame, fixed, json, welcome } = fake;
  const connections = [];
  const begin = async (fields) => {
    await settle();
    last().open();
    welcome({ heartbeat: { client_ms: 2000, gate_ms: 3000 }, ...fields });
    await settle();
  };
  client.connect();
  client.send("chat/enter", "lobby");
  await begin();
  client.request("chat/say", { text: "grüße, 世界" }).catch(() => {});
  await settle();
  for (let i = 0; i < 16; i += 1) last().receive(frame("chat/said", String(i)));
  last().receive(fixed("$ping", 2 ** 40 + 7));
  last().receive(json("$token", { token: "t-2" }));
  await clock.pass(2000);
  last().receive(json("$gap", { count: 3, reason: "dropped" }));
  await clock.pass(1000);
  last().receive(fixed("$ack", 1));
  client.send("chat/wave", "");
  last().lose();
  client.send("chat/wave", "2");
  await clock.pass(500);
  await begin({ resumed: true, received: 2, resume: { token: "t-3", window_ms: 1000 } });
  client.close();
  for (const socket of sockets) connections.push(socket.frames.map(described));
  return connections;
}

function described(frame) {
  const { topic, body } = decode(frame);
  const value = () => {
    if (["$ack", "$ping", "$pong"].includes(topic)) return Number(Buffer.from(body).readBigUInt64LE());
    if (topic === "$bye") return null;
    return topic === "$hello" ? JSON.parse(Buffer.from(body)) : Buffer.from(body).toString();
  };
  return { hex: hex(frame), topic, value: value() };
}

test("what this client writes is as recorded", async () => {
  const written = await scenario();
  const path = file("extended-client-js.json");
  if (process.env.TIDEGATE_TEST_WRITE) writeFileSync(path, `${JSON.stringify(written, null, 2)}\n`);
  assert.deepEqual(written, JSON.parse(readFileSync(path, "utf8")));
});

const recorded = JSON.parse(readFileSync(file("extended-rust.json"), "utf8"));

test("what the gate writes is read", () => {
  assert.ok(recorded.gate.length >= 15);
  for (const { hex, topic, value } of recorded.gate) {
    const packet = decode(unhex(hex));
    assert.equal(packet.topic, topic);
    const read = control.readControl(packet);
    if (topic === "$ack") {
      assert.deepEqual(read, { kind: "$ack", count: Number(value) });
    } else if (topic === "$ping" || topic === "$pong") {
      assert.equal(Buffer.from(read.body).readBigUInt64LE(), BigInt(value));
    } else {
      assert.deepEqual(read, { kind: topic, ...value });
    }
  }
});

test("what the client in Rust writes is written here too", () => {
  for (const { hex: bytes, topic, value } of recorded.client) {
    const fixed = { $ack: control.ack, $ping: control.ping }[topic];
    if (fixed) assert.equal(hex(fixed(Number(value))), bytes);
    if (topic === "$pong") assert.equal(hex(control.pong(unhex(bytes).subarray(9))), bytes);
    if (topic === "$bye") assert.equal(hex(control.bye()), bytes);
    if (topic !== "$hello") continue;
    const { agent, device, auth, heartbeat, resume: session } = value;
    const wish = { client: heartbeat.client_ms, gate: heartbeat.gate_ms };
    const written = control.hello({ agent, device, auth, session, resume: true, heartbeat: wish });
    assert.deepEqual(decode(written).json(), value);
  }
});
