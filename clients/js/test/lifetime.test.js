// How a client's sessions are prepared and closed, and how its user follows its states.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, ClosedError } from "../src/index.js";
import { FakeSocket, connected, settle, settled, setUp } from "./support/fake.js";

test("a session is prepared before what waits is sent", async () => {
  const order = [];
  const prepare = async (first) => {
    const { session } = first.welcome;
    order.push(`prepares ${session}`);
    first.send("p/hello");
    await first.request("p/login", "anna");
    order.push(`prepared ${session}`);
    if (session === "s-1") throw new Error("an error of prepare");
  };
  const fake = setUp({ prepare });
  const { client, accept, last, frame, clock, events } = fake;
  client.send("a", "waits");
  client.connect();
  const sent = await accept();
  assert.deepEqual(sent.slice(1).map(([, body]) => body), [0, "", "anna"]);
  client.send("a", "waits too");
  assert.deepEqual(last().sent(), []);
  last().lose();
  await clock.pass(1000);
  // It goes on with the session, and is not prepared twice.
  const again = await accept({ resumed: true, received: 1 });
  assert.deepEqual(again.slice(2).map(([, body]) => body), ["anna"]);
  last().lose();
  await clock.pass(5000);
  // A new one is; the preparation of the old one is over.
  const fresh = await accept({ session: "s-2" });
  assert.deepEqual(fresh.slice(1).map(([, body]) => body), [0, "", "anna"]);
  last().receive(frame(fresh[3][0], "welcome"));
  await settle();
  assert.deepEqual(last().sent().map(([, body]) => body), ["waits", "waits too"]);
  assert.deepEqual(order, ["prepares s-1", "prepares s-2", "prepared s-2"]);
  assert.ok(!events.some(([name]) => name === "error"));
});

test("a preparation that fails is an error, and no end", async () => {
  const prepare = () => {
    throw new Error("of prepare");
  };
  const { client, accept, last, events } = setUp({ prepare });
  client.send("a", "waits");
  client.connect();
  const sent = await accept();
  assert.deepEqual([...sent.slice(2), ...last().sent()].map(([, body]) => body), ["waits"]);
  assert.ok(events.some(([name, error]) => name === "error" && error.message === "of prepare"));
});

test("close says goodbye, and leaves nothing behind", async () => {
  const { client, last, clock, events, frame } = await connected();
  const request = settled(client.request("a/b"));
  client.send("a");
  last().receive(frame("news", "1"));
  await settle();
  last().sent();
  client.close();
  client.close();
  // What came is acknowledged first: else it would count as undelivered.
  assert.deepEqual(last().sent(), [["$ack", 1], ["$bye", ""]]);
  assert.equal(last().closed.code, 1000);
  const { error } = await request;
  assert.ok(error instanceof ClosedError);
  assert.equal(clock.timers, 0);
  assert.deepEqual(events.at(-1), ["state", { state: "closed", reason: "closed here" }]);
  assert.ok(!events.some(([name]) => name === "lost"));
  assert.throws(() => client.send("a"), ClosedError);
  assert.deepEqual([client.session, client.user, client.resumable], [null, null, false]);
});

test("a closed client can connect again, to a new session", async () => {
  const { client, accept } = await connected();
  client.close();
  const welcomed = client.connect();
  const [[, hello], ...more] = await accept({ session: "s-2" });
  assert.equal(JSON.parse(hello).resume, undefined);
  assert.deepEqual(more, [["$ack", 0]]);
  assert.equal((await welcomed).session, "s-2");
});

test("a client may be closed by any handler", async () => {
  for (const event of ["state", "lost", "gap", "push"]) {
    const { client, last, accept, clock, json, frame, sockets } = setUp();
    const wanted = settled(client.connect());
    if (event === "push") client.subscribe("p", () => client.close());
    else client.on(event, (value) => value.state !== "connecting" && client.close());
    await accept();
    last().receive(json("$gap", { count: 1, reason: "dropped" }));
    last().receive(frame("p", ""));
    last().lose();
    await clock.pass(2000);
    if (event === "lost") await accept({ session: "s-2" });
    assert.equal(client.state, "closed", event);
    await clock.pass(100_000);
    assert.equal(sockets.length, event === "lost" ? 2 : 1, event);
    assert.equal(clock.timers, 0, event);
    await wanted;
  }
});

test("a client may be closed when it hears that its session is lost", async () => {
  const { client, last, clock, sockets } = await connected({}, { resume: undefined });
  client.on("lost", () => client.close());
  last().lose();
  assert.equal(client.state, "closed");
  await clock.pass(1e6);
  assert.deepEqual([sockets.length, clock.timers], [1, 0]);
});

test("states are a stream that begins with the one there is", async () => {
  const { client, accept, last, clock } = setUp();
  const states = client.states();
  client.connect();
  await accept();
  last().lose();
  await clock.pass(10);
  client.close();
  const seen = [];
  for await (const { state } of states) seen.push(state);
  assert.deepEqual(seen, ["idle", "connecting", "open", "waiting", "closed"]);
  const more = client.states();
  client.connect();
  for await (const { state } of more) {
    assert.equal(state, "closed");
    break;
  }
  assert.deepEqual(await more.next(), { value: undefined, done: true });
});

test("a stream of states that nobody reads does not grow", async () => {
  const { client, clock, last } = setUp();
  const states = client.states();
  client.connect();
  for (let i = 0; i < 200; i += 1) {
    await settle();
    last().lose();
    while (client.state !== "connecting") await clock.pass(1000);
  }
  client.close();
  const seen = [];
  for await (const { state } of states) seen.push(state);
  assert.equal(seen.length, 64);
  assert.equal(seen.at(-1), "closed");
});

test("options are checked", () => {
  const make = (options) => () => new Client("ws://x/", { WebSocket: FakeSocket, ...options });
  make({})();
  const bad = [
    { requestTimeout: 0 },
    { backoff: { base: -1 } },
    { backoff: { cap: "1" } },
    { maxQueued: { packets: NaN } },
    { heartbeat: { client: 1000 } },
    { agent: "x".repeat(129) },
    { device: "ü".repeat(65) },
    { device: "a\nb" },
  ];
  for (const options of bad) assert.throws(make(options), TypeError, JSON.stringify(options));
  if (globalThis.WebSocket === undefined) assert.throws(() => new Client("ws://x/"), TypeError);
});

