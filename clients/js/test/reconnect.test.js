// When the client connects again, when it waits, and when it stays away.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";
import { ClosedError, CloseCode } from "../src/index.js";
import { FakeClock, connected, dice, settle, setUp } from "./support/fake.js";

const states = (events) => events.filter(([name]) => name === "state").map(([, state]) => state);

test("the back-off doubles up to its cap, with full jitter", () => {
  let dice = 1;
  const backoff = new Backoff({ base: 500, cap: 30_000 }, () => dice);
  const most = Array.from({ length: 9 }, () => backoff.next());
  assert.deepEqual(most, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  dice = 0;
  assert.equal(backoff.next(), 0);
  assert.equal(backoff.next(1500), 1500);
  dice = 0.5;
  backoff.reset();
  assert.equal(backoff.next(1500), 1750);
  assert.equal(backoff.next(), 500);
  backoff.attempt = 5000;
  assert.equal(backoff.next(), 15_000);
});

test("5,000 clients come back spread over the time", () => {
  const random = dice(3);
  const buckets = new Array(10).fill(0);
  for (let i = 0; i < 5000; i += 1) {
    const backoff = new Backoff({ base: 500, cap: 30_000 }, random);
    backoff.attempt = 3;
    buckets[Math.floor(backoff.next() / 400)] += 1;
  }
  for (const n of buckets) assert.ok(n > 400 && n < 600, buckets.join(" "));
});

test("a gate that cannot be reached is tried again and again, later and later", async () => {
  const { client, clock, sockets, last, events } = setUp({ backoff: { base: 1000, cap: 4000 } });
  client.connect();
  const delays = [];
  for (let i = 0; i < 5; i += 1) {
    await settle();
    last().lose();
    const { state, delay, attempt, code } = states(events).at(-1);
    assert.deepEqual([state, attempt, code], ["waiting", i + 1, 1006]);
    delays.push(delay);
    await clock.pass(delay - 1);
    assert.equal(sockets.length, i + 1);
    await clock.pass(1);
    assert.equal(sockets.length, i + 2);
  }
  assert.deepEqual(delays, [500, 1000, 2000, 2000, 2000]);
});

test("only a connection that has lasted begins the back-off anew", async () => {
  const { clock, last, accept, events } = await connected({ backoff: { base: 1000, cap: 8000 } });
  const lose = async () => {
    last().lose();
    const { delay } = states(events).at(-1);
    await clock.pass(delay);
    return delay;
  };
  assert.equal(await lose(), 500);
  await accept({ resumed: true });
  assert.equal(await lose(), 1000);
  await accept({ resumed: true });
  await clock.pass(5000);
  assert.equal(await lose(), 500);
  last().lose();
  assert.equal(states(events).at(-1).delay, 1000, "an attempt that fails is none that lasted");
});

test("$close says whether and when to come back", async () => {
  const { client, clock, last, json, sockets, events } = await connected();
  const close = { code: 4000, text: "the gate is shutting down", reconnect: true };
  last().receive(json("$close", { ...close, retry_after_ms: 1500 }));
  const waiting = states(events).at(-1);
  assert.deepEqual(waiting, {
    state: "waiting",
    attempt: 1,
    delay: 1750,
    code: 4000,
    reason: "the gate is shutting down",
  });
  // The close frame behind it says nothing new.
  sockets[0].lose(4500);
  await clock.pass(1749);
  assert.equal(sockets.length, 1);
  await clock.pass(1);
  assert.equal(sockets.length, 2);
  last().open();
  last().receive(json("$close", { code: 4503, text: "no\u001b", reconnect: false }));
  assert.deepEqual(states(events).at(-1), { state: "closed", code: 4503, reason: "no\\u{1b}" });
  await clock.pass(1e7);
  assert.equal(sockets.length, 2);
  assert.equal(client.state, "closed");
  assert.equal(clock.timers, 0);
});

test("no wish of a gate keeps the client away for ever", async () => {
  const { clock, page, last, json, sockets } = await connected();
  const close = { code: 4000, text: "", reconnect: true, retry_after_ms: 2 ** 52 };
  last().receive(json("$close", close));
  await clock.pass(3_600_000 - 1);
  page.visible(true);
  assert.equal(sockets.length, 1);
  await clock.pass(501);
  assert.equal(sockets.length, 2);
});

test("close codes 4500 to 4999 are final, all others are not", async () => {
  for (const [code, final] of [
    [1000, false],
    [1001, false],
    [1006, false],
    [1011, false],
    [4000, false],
    [4499, false],
    [4500, true],
    [CloseCode.Kicked, true],
    [4999, true],
  ]) {
    const { client, last, events } = await connected();
    client.send("a");
    last().lose(code, "why");
    assert.equal(client.state, final ? "closed" : "waiting", String(code));
    const lost = events.filter(([name]) => name === "lost");
    assert.equal(lost.length, final ? 1 : 0);
  }
});

test("authentication is asked for at each connection, and a refusal is final", async () => {
  let asked = 0;
  const { client, clock, last, accept, sockets } = setUp({ auth: async () => ({ n: (asked += 1) }) });
  client.connect();
  const [[, first]] = await accept();
  assert.deepEqual(JSON.parse(first).auth, { n: 1 });
  last().lose();
  await clock.pass(1000);
  last().open();
  assert.deepEqual(JSON.parse(last().sent()[0][1]).auth, { n: 2 });
  const wanted = client.connect();
  last().lose(CloseCode.AuthenticationRefused, "authentication refused");
  await assert.rejects(wanted, (error) => error instanceof ClosedError && error.code === 4503);
  await clock.pass(1e7);
  assert.equal(sockets.length, 2);
});

test("authentication that fails here is tried again, and one that hangs too", async () => {
  let attempt = 0;
  const error = new Error("the log-in server is away");
  const auth = () => {
    attempt += 1;
    if (attempt === 1) throw error;
    return attempt === 2 ? new Promise(() => {}) : "token";
  };
  const { client, clock, accept, sockets, events } = setUp({ auth, connectTimeout: 3000 });
  client.connect();
  await settle();
  assert.equal(states(events).at(-1).error, error);
  await clock.pass(500);
  assert.equal(client.state, "connecting");
  await clock.pass(3000);
  assert.equal(states(events).at(-1).reason, "no connection in time");
  await clock.pass(1000);
  assert.equal(sockets.length, 1);
  await accept();
  assert.equal(client.state, "open");
});

test("authentication that comes too late, for a client that was closed, opens nothing", async () => {
  let give;
  const auth = () => new Promise((resolve) => (give = resolve));
  const { client, clock, sockets } = setUp({ auth });
  client.connect();
  await settle();
  client.close();
  give("token");
  await clock.pass(1e6);
  assert.equal(sockets.length, 0);
});

test("what cannot be sent is not tried again", async () => {
  for (const auth of ["x".repeat(70_000), () => 1n]) {
    const { client, clock, sockets } = setUp({ auth });
    await assert.rejects(client.connect(), ClosedError);
    await clock.pass(1e7);
    assert.deepEqual([sockets.length, client.state, clock.timers], [0, "closed", 0]);
  }
  class Refusing {
    constructor(url) {
      throw new SyntaxError(url);
    }
  }
  const { client } = setUp({ WebSocket: Refusing });
  await assert.rejects(client.connect(), (error) => error.cause instanceof SyntaxError);
});

test("a gate that never answers is given up, and tried again", async () => {
  const { client, clock, sockets, last, events } = setUp({ connectTimeout: 2000 });
  client.connect();
  await settle();
  last().open();
  await clock.pass(2000);
  assert.equal(states(events).at(-1).reason, "no connection in time");
  assert.ok(last().closed);
  last().receive(new Uint8Array(4));
  last().lose(4500);
  await clock.pass(1000);
  assert.equal(sockets.length, 2);
});

test("a gate that breaks the protocol is tried again, never fast, and without the session", async () => {
  for (const bad of ["malformed", "text", "second welcome", "wrong count"]) {
    const { client, clock, last, accept, sockets, events, json, fixed, welcome } = await connected();
    const breakIt = () => {
      if (bad === "malformed") last().receive(Uint8Array.of(5, 0, 9, 0, 65));
      else if (bad === "text") last().onmessage({ data: "hello" });
      else if (bad === "second welcome") welcome();
      else last().receive(fixed("$ack", 99));
    };
    client.send("a", "1");
    breakIt();
    assert.deepEqual(last().closed, { code: 4507, reason: "protocol error" });
    await clock.pass(500);
    const [[, hello]] = await accept({ resumed: true, received: 1 });
    assert.equal(JSON.parse(hello).resume.token, "t-1");
    assert.ok(!events.some(([name]) => name === "lost"));
    breakIt();
    assert.equal(events.filter(([name]) => name === "lost").length, 1, bad);
    for (let i = 0; i < 20; i += 1) {
      while (client.state !== "connecting") await clock.pass(100);
      const [[, hello]] = await accept();
      if (i === 0) assert.equal(JSON.parse(hello).resume, undefined);
      last().receive(json("$gap", {}));
    }
    const before = sockets.length;
    await clock.pass(10);
    assert.ok(sockets.length - before <= 1);
    const { delay, reason } = states(events).at(-1);
    assert.ok(delay >= 10_000, `${delay}`);
    assert.match(reason, /count is missing/);
  }
});

test("a first packet that is no $welcome is no welcome", async () => {
  const { client, last, frame, events } = setUp();
  client.connect();
  await settle();
  last().open();
  last().receive(frame("chat/say", "v1"));
  assert.equal(client.state, "waiting");
  assert.equal(states(events).at(-1).reason, "chat/say before $welcome");
});

test("a session whose packets no longer fit is given up", async () => {
  const { client, clock, last, accept, events } = await connected();
  client.send("a", "x".repeat(5000));
  last().lose();
  await clock.pass(1000);
  await accept({ resumed: true, max_packet: 1000 });
  const [, lost] = events.find(([name]) => name === "lost");
  assert.equal(lost.unknown[0].body.length, 5000);
  assert.equal(client.state, "waiting");
});

test("a gate that drains is left when nothing is under way", async () => {
  const { client, clock, last, accept, sockets, json, frame } = await connected();
  const request = client.request("a/b", "", { timeout: Infinity });
  await settle();
  const [[topic]] = last().sent();
  last().receive(json("$drain", { deadline_ms: 10_000, retry_after_ms: 800 }));
  await clock.pass(7000);
  assert.equal(sockets.length, 1);
  last().receive(frame(topic, "done"));
  await request;
  await clock.pass(100);
  assert.equal(sockets.length, 2);
  const [[, hello]] = await accept({ resumed: true });
  assert.deepEqual(JSON.parse(hello).resume, { token: "t-1", received: 1 });
  assert.ok(sockets[0].closed);
  assert.ok(!sockets[0].frames.length, "no $bye");
});

test("a gate that drains is left before it closes, come what may", async () => {
  const { client, clock, last, sockets, json } = await connected();
  client.request("a/b", "", { timeout: Infinity }).catch(() => {});
  last().receive(json("$drain", { deadline_ms: 10_000, retry_after_ms: 800 }));
  await clock.pass(8900);
  assert.equal(sockets.length, 1);
  await clock.pass(200);
  assert.equal(sockets.length, 2);
  const absurd = await connected();
  absurd.last().receive(json("$drain", { deadline_ms: 2 ** 52, retry_after_ms: 2 ** 52 }));
  await absurd.clock.pass(1000);
  assert.equal(absurd.sockets.length, 1);
});

test("heartbeats: something is said in time, and silence is found out", async () => {
  const heartbeat = { client_ms: 10_000, gate_ms: 20_000 };
  const { client, clock, last, fixed, sockets, events } = await connected({}, { heartbeat });
  await clock.pass(9999);
  assert.deepEqual(last().sent(), []);
  await clock.pass(1);
  assert.deepEqual(last().sent(), [["$ping", 1]]);
  client.send("a");
  last().receive(fixed("$ping", 77));
  assert.deepEqual(last().sent(), [["a", ""], ["$pong", 77]]);
  await clock.pass(9999);
  assert.deepEqual(last().sent(), []);
  await clock.pass(1);
  assert.deepEqual(last().sent(), [["$ping", 2]]);
  await clock.pass(29_999);
  assert.equal(client.state, "open");
  await clock.pass(1);
  assert.equal(states(events).at(-1).reason, "the gate is silent");
  await clock.pass(500);
  assert.equal(sockets.length, 2);
});

test("after a sleep the connection gets one chance", async () => {
  const heartbeat = { client_ms: 10_000, gate_ms: 10_000 };
  const { client, clock, last, fixed } = await connected({}, { heartbeat });
  clock.sleep(3_600_000);
  await clock.pass(0);
  assert.equal(client.state, "open");
  assert.deepEqual(last().sent(), [["$ping", 1]]);
  await clock.pass(4000);
  last().receive(fixed("$pong", 1));
  await clock.pass(5000);
  assert.equal(client.state, "open");
  last().sent();
  clock.sleep(3_600_000);
  await clock.pass(4999);
  assert.equal(client.state, "open");
  await clock.pass(1);
  assert.equal(client.state, "waiting");
});

test("a clock that is set back does not hide silence", async () => {
  const heartbeat = { client_ms: 10_000, gate_ms: 10_000 };
  const { client, clock } = await connected({}, { heartbeat });
  clock.setBack(3_600_000);
  await clock.pass(35_000);
  assert.notEqual(client.state, "open");
});

test("no heartbeat of the gate's makes the client spin", async () => {
  const heartbeat = { client_ms: 0, gate_ms: 2 ** 50 };
  const { clock, last } = await connected({}, { heartbeat });
  await clock.pass(1000);
  assert.ok(last().sent().length <= 20);
});

test("a real clock survives times that are too long for timers", async () => {
  const { systemClock } = await import("../src/network.js");
  const timer = systemClock.setTimeout(() => assert.fail("at once"), 2 ** 40);
  await new Promise((resolve) => setTimeout(resolve, 5));
  systemClock.clearTimeout(timer);
  assert.equal(typeof new FakeClock().now(), "number");
});
