// What a user of the client sees, on sockets and a clock moved by hand.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as tidegate from "../src/index.js";
import {
  ClosedError,
  GateError,
  OutcomeUnknownError,
  QueueFullError,
  TimeoutError,
  TooLargeError,
} from "../src/index.js";
import { connected, settle, settled, setUp } from "./support/fake.js";

test("$hello opens, and the first packet behind $welcome is an $ack", async () => {
  const options = { agent: "a/1", device: "d", auth: { token: 1 }, protocols: ["x"] };
  const fake = setUp({ ...options, heartbeat: { client: 2000, gate: 3000 } });
  const { client } = fake;
  assert.equal(client.state, "idle");
  const welcomed = client.connect();
  assert.equal(client.connect(), welcomed);
  assert.equal(client.state, "connecting");
  client.send("a/b", "waits");
  await settle();
  assert.equal(fake.last().url, "ws://gate.test/");
  assert.deepEqual(fake.last().protocols, ["x"]);
  fake.last().open();
  const [[topic, body]] = fake.last().sent();
  assert.equal(topic, "$hello");
  assert.deepEqual(JSON.parse(body), {
    versions: [1],
    agent: "a/1",
    device: "d",
    capabilities: ["resume"],
    auth: { token: 1 },
    heartbeat: { client_ms: 2000, gate_ms: 3000 },
  });
  fake.welcome({ user: "anna" });
  assert.deepEqual(fake.last().sent(), [["$ack", 0], ["a/b", "waits"]]);
  const welcome = await welcomed;
  assert.deepEqual(welcome, {
    gate: "gate-1",
    session: "s-1",
    user: "anna",
    capabilities: ["resume"],
    heartbeat: { client: 25_000, gate: 25_000 },
    maxPacket: 65_535,
    resumeWindow: 120_000,
    resumed: false,
    refused: null,
  });
  assert.equal(client.session, "s-1");
  assert.equal(client.user, "anna");
  assert.ok(client.resumable);
  assert.equal(await client.connect(), welcome);
  assert.deepEqual(fake.events.map(([, { state }]) => state), ["connecting", "open"]);
  assert.ok(!JSON.stringify([welcome, fake.events]).includes("t-1"), "the token stays inside");
});

test("answers find their requests, in any order, once", async () => {
  const { client, last, frame } = await connected();
  const [one, two] = [client.request("a/b", "1"), client.request("a/b", "2")];
  const pushed = [];
  client.subscribe("*", (packet) => pushed.push(packet.topic));
  await settle();
  const topics = last().sent().map(([topic]) => topic);
  assert.match(topics[0], /^a\/b\/[0-9a-z]{4}-1$/);
  assert.equal(new Set(topics).size, 2);
  last().receive(frame(topics[1], "two"));
  last().receive(frame(topics[0], "one"));
  last().receive(frame(topics[0], "once more"));
  assert.equal((await one).text(), "one");
  assert.equal((await two).text(), "two");
  assert.deepEqual(pushed, []);
});

test("an $error fails its request, or is an event", async () => {
  const { client, last, json, events } = await connected();
  const request = settled(client.request("a/b"));
  client.send("a/c");
  await settle();
  const [[topic]] = last().sent();
  events.length = 0;
  last().receive(json("$error", { topic, packet: 1, code: 3, message: "no such method" }));
  last().receive(json("$error", { topic: "a/c", packet: 2, code: 1001, message: "no" }));
  last().receive(json("$error", { topic, packet: 3, code: 6, message: "late" }));
  const { error } = await request;
  assert.ok(error instanceof GateError && error instanceof tidegate.TidegateError);
  assert.deepEqual([error.code, error.text, error.topic], [3, "no such method", topic]);
  assert.deepEqual(events.map(([name, e]) => [name, e.code, e.topic]), [["error", 1001, "a/c"]]);
});

test("a request ends when its time has passed, or its signal says so", async () => {
  const { client, clock, last, frame } = await connected();
  const late = settled(client.request("a/b", "", { timeout: 100 }));
  const controller = new AbortController();
  const aborted = settled(client.request("a/b", "", { signal: controller.signal }));
  const usual = settled(client.request("a/b"));
  await clock.pass(99);
  const [[topic]] = last().sent();
  await clock.pass(1);
  const { error } = await late;
  assert.ok(error instanceof TimeoutError);
  assert.ok(error.sent);
  controller.abort();
  assert.equal((await aborted).error.name, "AbortError");
  const before = settled(client.request("a/b", "", { signal: AbortSignal.abort("why") }));
  assert.equal((await before).error, "why");
  await clock.pass(10_000);
  assert.ok((await usual).error instanceof TimeoutError);
  // Nobody waits for it any more, and nobody is bothered with it.
  client.subscribe("*", () => assert.fail("a late answer"));
  last().receive(frame(topic, "late"));
});

test("what was given up before it was written is not written", async () => {
  const { client, clock, accept } = setUp();
  const late = settled(client.request("a/b", "", { timeout: 100 }));
  const controller = new AbortController();
  const aborted = settled(client.request("a/b", "", { signal: controller.signal }));
  await clock.pass(100);
  const { error } = await late;
  assert.ok(error instanceof TimeoutError && !error.sent);
  controller.abort();
  await aborted;
  client.send("a/c");
  client.connect();
  const sent = await accept();
  assert.deepEqual(sent.map(([topic]) => topic), ["$hello", "$ack", "a/c"]);
});

test("subscriptions: a topic, a prefix, all; each until it is ended", async () => {
  const { client, last, frame } = await connected();
  const seen = [];
  const note = (who) => (packet) => seen.push(`${who}:${packet.topic}`);
  const stop = [
    client.subscribe("chat/say", note("exact")),
    client.subscribe("chat/", note("prefix")),
    client.subscribe("*", note("all")),
    client.subscribe("chat/say", note("again")),
  ];
  last().receive(frame("chat/say", ""));
  assert.deepEqual(seen.splice(0), ["exact", "again", "prefix", "all"].map((w) => `${w}:chat/say`));
  last().receive(frame("chat/say/more", ""));
  last().receive(frame("chat", ""));
  assert.deepEqual(seen.splice(0), ["prefix:chat/say/more", "all:chat/say/more", "all:chat"]);
  stop[0]();
  stop[0]();
  stop[2]();
  last().receive(frame("chat/say", ""));
  assert.deepEqual(seen.splice(0), ["again:chat/say", "prefix:chat/say"]);
  assert.throws(() => client.subscribe("", () => {}), TypeError);
  assert.throws(() => client.subscribe("a", 7), TypeError);
  assert.throws(() => client.on("nothing", () => {}), TypeError);
});

test("what handlers throw is reported, and breaks nothing", async (t) => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => delete globalThis.reportError);
  const { client, last, frame, clock } = await connected();
  const seen = [];
  client.subscribe("a", () => {
    throw new tidegate.ProtocolError("thrown");
  });
  client.subscribe("a", async () => {
    throw new Error("rejected");
  });
  client.subscribe("a", (packet) => seen.push(packet.text()));
  client.on("state", () => {
    throw new Error("state");
  });
  last().receive(frame("a", "1"));
  await settle();
  assert.deepEqual(seen, ["1"]);
  last().lose();
  await clock.pass(1000);
  assert.equal(client.state, "connecting");
  assert.deepEqual(reported, ["thrown", "rejected", "state", "state"]);
});

test("acknowledges after 16 packets, or a second", async () => {
  const { client, last, frame, json, clock } = await connected();
  let inside = 0;
  client.subscribe("a", () => (inside = last().frames.length));
  for (let i = 1; i <= 16; i += 1) last().receive(frame("a", ""));
  assert.equal(inside, 0, "not before the handler has had the packet");
  assert.deepEqual(last().sent(), [["$ack", 16]]);
  last().receive(json("$gap", { count: 4, reason: "dropped" }));
  last().receive(json("$error", { topic: "x", packet: 1, code: 1, message: "" }));
  await clock.pass(999);
  assert.deepEqual(last().sent(), []);
  await clock.pass(1);
  assert.deepEqual(last().sent(), [["$ack", 21]]);
  await clock.pass(5000);
  assert.deepEqual(last().sent(), [], "once");
});

test("gaps, drained gates and the end of resume are events", async () => {
  const { client, last, json, events } = await connected();
  events.length = 0;
  last().receive(json("$gap", { count: 4, reason: "replaced" }));
  last().receive(json("$drain", { deadline_ms: 9000, retry_after_ms: 800 }));
  last().receive(json("$token", { token: "t-2" }));
  last().receive(json("$later", {}));
  last().receive(json("$token", { refused: { code: 3, text: "overflowed" } }));
  assert.deepEqual(events, [
    ["gap", { count: 4, reason: "replaced" }],
    ["drain", { deadline: 9000, retryAfter: 800 }],
    ["unresumable", { code: 3, text: "overflowed" }],
  ]);
  assert.equal(client.resumable, false);
});

test("a session goes on: again what was not taken, in order, before what waited", async () => {
  const { client, last, frame, fixed, accept, clock, events, json } = await connected();
  const answer = client.request("a/b", "asked");
  await settle();
  for (const n of [2, 3, 4]) client.send("a/n", String(n));
  const [[topic]] = last().sent();
  last().receive(fixed("$ack", 1));
  last().receive(frame("push", ""));
  last().receive(json("$token", { token: "t-2" }));
  last().lose();
  client.send("a/n", "5");
  await clock.pass(1000);
  events.length = 0;
  const [[, hello], ...more] = await accept({ resumed: true, received: 2, resume: { token: "t-3", window_ms: 1 } });
  assert.deepEqual(JSON.parse(hello).resume, { token: "t-2", received: 1 });
  assert.deepEqual(more, [["$ack", 1], ["a/n", "3"], ["a/n", "4"], ["a/n", "5"]]);
  assert.deepEqual(events, [["state", { state: "open", attempt: 1, resumed: true, refused: null }]]);
  last().receive(frame(topic, "answered"));
  assert.equal((await answer).text(), "answered");
  last().receive(fixed("$ack", 5));
});

test("a new session begins: what was written is unknown, what waited is written", async () => {
  const { client, last, accept, clock, events, fixed } = await connected();
  const accepted = settled(client.request("a/b", "taken"));
  await settle();
  last().receive(fixed("$ack", 1));
  const written = settled(client.request("a/b", "written"));
  client.send("a/n", "1");
  await settle();
  last().lose();
  client.send("a/n", "2");
  const waits = client.request("a/b", "waits");
  await clock.pass(1000);
  events.length = 0;
  const refused = { code: 2, text: "the session has expired" };
  const sent = await accept({ refused, session: "s-2" });
  assert.deepEqual(sent.slice(1).map(([, body]) => body), [0, "2", "waits"]);
  const [[name, lost], [, state]] = events;
  assert.equal(name, "lost");
  assert.deepEqual(lost.unknown.map((packet) => packet.text()), ["written", "1"]);
  assert.deepEqual([lost.unsent, lost.refused], [[], refused]);
  assert.deepEqual(state, { state: "open", attempt: 1, resumed: false, refused });
  assert.ok((await accepted).error instanceof OutcomeUnknownError);
  assert.ok((await written).error instanceof OutcomeUnknownError);
  client.close();
  assert.ok((await settled(waits)).error instanceof ClosedError);
});

test("a session that cannot be resumed is lost with its connection", async () => {
  const { client, last, accept, clock, events } = await connected({ resume: false }, { resume: undefined });
  const written = settled(client.request("a/b", "written"));
  await settle();
  last().lose();
  assert.ok((await written).error instanceof OutcomeUnknownError);
  assert.deepEqual(events.map(([name]) => name), ["lost", "state"]);
  await clock.pass(1000);
  const [[, hello]] = await accept({ resume: undefined });
  assert.deepEqual(JSON.parse(hello), { versions: [1], agent: "tidegate-client-js/0.1.0" });
  assert.equal(events.filter(([name]) => name === "lost").length, 1);
});

test("what waits is bounded, and what is written without being acknowledged", async () => {
  const fake = setUp({ maxQueued: { packets: 3, bytes: 1000 }, maxRequests: 4 });
  const { client, accept, last, fixed } = fake;
  for (let n = 1; n <= 3; n += 1) client.send("a", String(n));
  assert.throws(() => client.send("a", "4"), QueueFullError);
  assert.ok((await settled(client.request("a"))).error instanceof QueueFullError);
  client.connect();
  await accept();
  for (let n = 4; n <= 6; n += 1) client.send("a", String(n));
  assert.throws(() => client.send("a", "7"), QueueFullError);
  assert.deepEqual(last().sent(), [], "the gate has acknowledged none");
  last().receive(fixed("$ack", 2));
  assert.deepEqual(last().sent(), [["a", "4"], ["a", "5"]]);
  last().receive(fixed("$ack", 5));
  assert.deepEqual(last().sent(), [["a", "6"]]);
  client.send("a", "x".repeat(2000));
  assert.equal(last().sent().length, 0);
  assert.throws(() => client.send("a", ""), QueueFullError);
  last().receive(fixed("$ack", 6));
  assert.equal(last().sent().length, 1, "one that is too large for the bound goes alone");
  last().receive(fixed("$ack", 7));
  for (let n = 0; n < 3; n += 1) client.request("a").catch(() => {});
  await settle();
  last().receive(fixed("$ack", 10));
  client.request("a").catch(() => {});
  const { error } = await settled(client.request("a"));
  assert.ok(error instanceof QueueFullError);
  assert.match(error.message, /4 requests/);
});

test("what does not fit the gate's frame is refused", async () => {
  const { client, accept, events } = setUp();
  client.send("a", "x".repeat(2000));
  const early = settled(client.request("a/b", "x".repeat(2000)));
  assert.throws(() => client.send("a", "x".repeat(70_000)), TooLargeError);
  client.connect();
  const sent = await accept({ max_packet: 1000 });
  assert.equal(sent.length, 2);
  assert.ok((await early).error instanceof TooLargeError);
  assert.ok(events.some(([name, error]) => name === "error" && error instanceof TooLargeError));
  assert.throws(() => client.send("a", "x".repeat(1000)), TooLargeError);
});
