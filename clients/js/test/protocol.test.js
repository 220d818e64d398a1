// Frames, control packets and numbers are those of docs/protocol.md and of the gate's code.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { MAX_FRAME, Packet, checkTopic, decode, encode, integer, toBytes } from "../src/codec.js";
import { CloseCode, ErrorCode, ResumeRefusal, isFinal } from "../src/codes.js";
import * as control from "../src/control.js";
import { GateError, ProtocolError, TooLargeError } from "../src/errors.js";
import { complete } from "../src/options.js";
import { Session } from "../src/session.js";
import { dice, frameMaker } from "./support/fake.js";
import { ROOT } from "./support/tools.js";

const PAGE = readFileSync(`${ROOT}docs/protocol.md`, "utf8");
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const { frame, json } = frameMaker();

/** The bytes in the left column of the page's example that says `mark`. */
function golden(mark) {
  const block = PAGE.split("```text\n").find((text) => text.split("```")[0].includes(mark));
  const lines = block.split("```")[0].trimEnd().split("\n");
  return lines.map((line) => line.match(/^(?:[0-9a-f]{2} ?)+/)[0].replaceAll(" ", "")).join("");
}

test("the frames of the page", () => {
  assert.equal(hex(encode("svc/echo/1", toBytes("hello"))), golden("total = 19"));
  assert.equal(hex(control.ack(3)), golden("total = 16"));
  const packet = decode(encode("svc/echo/1", toBytes("hello")));
  assert.equal(packet.topic, "svc/echo/1");
  assert.equal(packet.text(), "hello");
});

test("the JSON of the page", () => {
  const blocks = PAGE.split("```json\n").slice(1);
  const examples = blocks.map((block) => JSON.parse(block.split("```")[0]));
  const extended = examples.slice(1);
  const topics = ["$hello", "$welcome", "$error", "$gap", "$close", "$drain"];
  assert.equal(extended.length, topics.length);
  const { versions, ...example } = extended[0];
  assert.deepEqual(versions, [control.VERSION]);
  const written = control.hello({
    agent: example.agent,
    device: example.device,
    resume: true,
    auth: example.auth,
    heartbeat: { client: example.heartbeat.client_ms, gate: example.heartbeat.gate_ms },
    session: example.resume,
  });
  assert.deepEqual(decode(written).json(), extended[0]);
  topics.slice(1).forEach((topic, i) => {
    const read = control.readControl(decode(json(topic, extended[i + 1])));
    assert.deepEqual(read, { kind: topic, ...extended[i + 1] });
  });
});

test("the numbers of the page", () => {
  for (const phrase of [
    `this page is version ${control.VERSION}`,
    `for logs; at most ${control.MAX_NAME} bytes`,
    `acknowledges after ${control.ACK_PACKETS} packets or ${control.ACK_DELAY / 1000} s`,
    `${MAX_FRAME} by default, which is also the ceiling`,
  ]) {
    assert.ok(PAGE.includes(phrase), phrase);
  }
});

test("the codes are those of the gate", () => {
  const source = (file) => readFileSync(`${ROOT}crates/protocol/src/${file}`, "utf8");
  const listed = (text, pattern) =>
    Object.fromEntries([...text.matchAll(pattern)].map(([, name, code]) => [name, Number(code)]));
  const reason = /^ {4}(\w+) = (\d+), "/gm;
  const close = listed(source("close.rs"), reason);
  // RFC 6455's, and what is only counted.
  for (const [name, code] of Object.entries(close)) if (code < 4000) delete close[name];
  const never = ["NotResumed", "ResumeOverflow", "Handshake", "TooManyConnections"];
  for (const name of never) delete close[name];
  assert.deepEqual(CloseCode, close);
  assert.deepEqual(ResumeRefusal, listed(source("extended/control.rs"), reason));
  assert.deepEqual(ErrorCode, listed(source("error.rs"), /^ {4}([A-Z_]+) = (\d+), "/gm));
  const declared = readFileSync(`${ROOT}clients/js/index.d.ts`, "utf8");
  assert.deepEqual(listed(declared, /^ {2}readonly (\w+): (\d+);/gm), {
    ...ErrorCode,
    ...ResumeRefusal,
    ...CloseCode,
  });
  assert.ok(isFinal(4500) && isFinal(4999));
  assert.ok(!isFinal(4499) && !isFinal(5000) && !isFinal(undefined));
});

test("the defaults are those that are documented", () => {
  const flat = (text) => text.replace(/\s+/g, " ");
  const read = (file) => flat(readFileSync(`${ROOT}${file}`, "utf8"));
  const comma = (n) => n.toLocaleString("en-US");
  const given = complete("wss://gate.example/", { WebSocket: class {} });
  const { base, cap } = given.backoff;
  const { packets, bytes } = given.maxQueued;
  const queued = `${packets}, and ${bytes / 1024 / 1024} MiB (\`maxQueued\`)`;
  const declared = [
    `Milliseconds for the answer to a request. ${comma(given.requestTimeout)}. */ requestTimeout`,
    `\`auth\` included. ${comma(given.connectTimeout)}. */ connectTimeout`,
    `up to \`cap\`. ${base} and ${comma(cap)}. */ backoff`,
    `${packets} and ${bytes / 1024 / 1024} MiB. */ maxQueued`,
    `at a time. ${comma(given.maxRequests)}. */ maxRequests`,
    `trying to connect. ${comma(given.maxHidden)}. */ maxHidden`,
    `logs; at most ${control.MAX_NAME} bytes. */ agent`,
    `outlive its connection. \`${given.resume}\`. */ resume`,
  ];
  const page = `begins at ${base} ms and doubles with each attempt, up to ${cap / 1000} s`;
  for (const [file, phrases] of Object.entries({
    "docs/protocol.md": [page],
    "clients/js/README.md": [queued, `up to ${cap / 1000} s (\`backoff\`)`],
    "clients/js/index.d.ts": declared,
  })) {
    const text = read(file);
    for (const phrase of phrases) assert.ok(text.includes(phrase), `${file}: ${phrase}`);
  }
});

test("a frame that cannot be read", () => {
  const bad = {
    "nothing": "",
    "no topic": "04000000",
    "an empty topic with a body": "0500000041",
    "shorter than it says": "0a00010041",
    "longer than it says": "05000100414142",
    "a topic beyond the frame": "0600030041",
    "a topic that is not UTF-8": "06000200c328",
    "a topic with a control character": "060002004107",
    "a topic with a C1 control character": "06000200c285",
  };
  for (const [what, bytes] of Object.entries(bad)) {
    assert.throws(() => decode(Uint8Array.from(Buffer.from(bytes, "hex"))), ProtocolError, what);
  }
  assert.throws(() => decode("text"), ProtocolError);
  // A mark of byte order is part of the topic, not nothing.
  assert.equal(decode(frame("\ufeffa", "")).topic, "\ufeffa");
});

test("what cannot be sent is refused", () => {
  for (const topic of ["", "$hello", "a\u0000", "a\u0085", "a\ud800", 7, undefined]) {
    assert.throws(() => checkTopic(topic), TypeError, String(topic));
  }
  checkTopic("chat/say 😀");
  const most = MAX_FRAME - 4 - 1;
  assert.equal(encode("a", new Uint8Array(most)).length, MAX_FRAME);
  assert.throws(() => encode("a", new Uint8Array(most + 1)), TooLargeError);
  assert.throws(() => toBytes(() => {}), TypeError);
});

test("bodies", () => {
  const text = (body) => new Packet("t", toBytes(body)).text();
  assert.equal(text("für"), "für");
  assert.equal(text(undefined), "");
  assert.equal(text(null), "null");
  assert.equal(text({ a: [1] }), '{"a":[1]}');
  assert.equal(text(new Uint8Array([104, 105])), "hi");
  assert.equal(text(new Uint8Array([0, 104, 105]).subarray(1)), "hi");
  assert.equal(text(new Uint8Array([104, 105]).buffer), "hi");
  assert.equal(text(new DataView(new Uint8Array([104, 105]).buffer)), "hi");
  assert.deepEqual(new Packet("t", toBytes({ a: 1 })).json(), { a: 1 });
  assert.throws(() => new Packet("t", toBytes("{")).json(), SyntaxError);
});

const WELCOME = {
  version: 1,
  gate: "g",
  session: "s",
  heartbeat: { client_ms: 1000, gate_ms: 1000 },
  max_packet: 1000,
  resumed: false,
  received: 0,
};

test("control packets that cannot be read", () => {
  const read = (topic, body) => control.readControl(decode(frame(topic, body)));
  const bad = [
    ["$welcome", "{}"],
    ["$welcome", "[]"],
    ["$welcome", "null"],
    ["$welcome", "{"],
    ["$welcome", JSON.stringify({ ...WELCOME, version: 2 })],
    ["$welcome", JSON.stringify({ ...WELCOME, received: -1 })],
    ["$welcome", JSON.stringify({ ...WELCOME, received: 1.5 })],
    ["$welcome", JSON.stringify({ ...WELCOME, received: 2 ** 53 })],
    ["$welcome", JSON.stringify({ ...WELCOME, heartbeat: { client_ms: 1 } })],
    ["$welcome", JSON.stringify({ ...WELCOME, resume: { token: 1, window_ms: 1 } })],
    ["$welcome", JSON.stringify({ ...WELCOME, user: 1 })],
    ["$welcome", JSON.stringify({ ...WELCOME, capabilities: [1] })],
    ["$error", '{"topic":"a","packet":1,"code":70000,"message":""}'],
    ["$gap", '{"count":"1","reason":"dropped"}'],
    ["$close", '{"code":4000,"text":"","reconnect":1}'],
    ["$drain", "{}"],
    ["$ack", "1234567"],
    ["$ack", Buffer.from("ffffffffffffffff", "hex")],
    ["$ping", "123456789"],
    ["$pong", ""],
  ];
  for (const [topic, body] of bad) {
    assert.throws(() => read(topic, body), ProtocolError, `${topic} ${body}`);
  }
  assert.equal(read("$welcome", JSON.stringify(WELCOME)).session, "s");
  const more = { ...WELCOME, user: null, later: { version: 2 }, __proto__: { x: 1 } };
  assert.deepEqual(read("$welcome", JSON.stringify(more)), { kind: "$welcome", ...WELCOME });
  for (const topic of ["$later", "$constructor", "$"]) assert.equal(read(topic, "?"), undefined);
});

test("no body makes the reader do anything but read or refuse", () => {
  const random = dice(7);
  const topics = ["$welcome", "$ping", "$pong", "$ack", "$error", "$gap", "$token", "$drain", "$close"];
  const good = JSON.stringify({ ...WELCOME, count: 1, reason: "x", code: 1, text: "", topic: "t" });
  for (let i = 0; i < 20_000; i += 1) {
    const body = Buffer.from(random() < 0.5 ? good : good.slice(0, random() * 20));
    for (let n = random() * 4; n > 0; n -= 1) body[Math.floor(random() * body.length)] = random() * 256;
    const bytes = frame(topics[Math.floor(random() * topics.length)], body);
    try {
      new Session().take(decode(bytes));
    } catch (error) {
      assert.ok(error instanceof ProtocolError, error.stack);
    }
  }
});

test("counts that cannot be are refused", () => {
  const session = new Session();
  const resume = { token: "t", window_ms: 1 };
  session.welcome({ ...WELCOME, resume });
  session.write({ frame: new Uint8Array(5) });
  const acknowledge = (n) => session.take(decode(encode("$ack", integer(n))));
  assert.throws(() => acknowledge(2), ProtocolError);
  acknowledge(1);
  acknowledge(1);
  assert.throws(() => acknowledge(0), ProtocolError);
  assert.throws(() => session.welcome({ ...WELCOME, resume, resumed: true, received: 0 }), ProtocolError);
  assert.throws(() => session.take(decode(json("$welcome", WELCOME))), ProtocolError);
  const gap = (count) => session.take(decode(json("$gap", { count, reason: "dropped" })));
  gap(Number.MAX_SAFE_INTEGER);
  assert.throws(() => gap(1), ProtocolError);
  const unasked = new Session();
  assert.throws(() => unasked.welcome({ ...WELCOME, resumed: true }), ProtocolError);
});

test("messages of errors are fit for a terminal", () => {
  const text = "a\u001b[2Jb\u202ec\nd";
  const error = new GateError({ code: 1000, text, topic: "t\u009b" });
  assert.equal(error.message, "t\\u{9b}: a\\u{1b}[2Jb\\u{202e}c\\u{a}d (1000)");
  assert.equal(error.text, text);
  assert.ok(new GateError({ code: 1, text: "x".repeat(9999), topic: "t" }).message.length < 300);
});
