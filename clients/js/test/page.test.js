// In a page: the network comes and goes, the page is hidden, left, and comes back.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connected, settle, setUp } from "./support/fake.js";

const lastState = (events) => events.filter(([name]) => name === "state").at(-1)[1];

/** A storage as a page has one, and a second page of the same tab. */
function memory() {
  let kept = null;
  const storage = {
    get: () => kept,
    set: (text) => (kept = text),
    remove: () => (kept = null),
  };
  return { storage, kept: () => kept };
}

test("without a network it waits, and goes on when it comes", async () => {
  const { client, clock, page, last, sockets, events } = await connected();
  page.navigator.onLine = false;
  last().lose();
  const { state, delay } = lastState(events);
  assert.deepEqual([state, delay], ["offline", 30_000]);
  await clock.pass(20_000);
  assert.equal(sockets.length, 1);
  page.online(true);
  assert.equal(client.state, "waiting");
  assert.ok(lastState(events).delay <= 500);
  await clock.pass(500);
  assert.equal(sockets.length, 2);
});

test("a browser that is wrong about the network does not keep it away", async () => {
  const { client, clock, page, last, accept } = await connected();
  page.navigator.onLine = false;
  last().lose();
  await clock.pass(30_000);
  await accept({ resumed: true });
  assert.equal(client.state, "open");
});

test("a network that comes or goes makes it look at the connection", async () => {
  for (const event of [(p) => p.online(false), (p) => p.online(true), (p) => p.visible(true)]) {
    const { client, clock, page, last, fixed, sockets } = await connected();
    event(page);
    assert.deepEqual(last().sent(), [["$ping", 1]]);
    event(page);
    assert.deepEqual(last().sent(), [], "one at a time");
    await clock.pass(4999);
    last().receive(fixed("$pong", 1));
    await clock.pass(5000);
    assert.equal(client.state, "open");
    event(page);
    await clock.pass(5000);
    assert.notEqual(client.state, "open");
    await clock.pass(30_000);
    assert.ok(sockets.length > 1);
  }
});

test("what the gate asked for is kept to, whatever the page does", async () => {
  const { clock, page, last, sockets, json } = await connected();
  const close = { code: 4000, text: "", reconnect: true, retry_after_ms: 60_000 };
  last().receive(json("$close", close));
  page.online(true);
  page.visible(true);
  await clock.pass(59_999);
  assert.equal(sockets.length, 1);
  await clock.pass(501);
  assert.equal(sockets.length, 2);
});

test("no event makes it try faster than its first wait", async () => {
  const { clock, page, last, sockets } = await connected();
  last().lose();
  for (let i = 0; i < 100; i += 1) {
    page.visible(true);
    await settle();
  }
  await clock.pass(1);
  assert.equal(sockets.length, 1);
  await clock.pass(250);
  assert.equal(sockets.length, 2);
  page.visible(true);
  assert.equal(sockets.length, 2, "an attempt is under way");
});

test("a hidden page tries for five minutes, then waits to be seen", async () => {
  const { client, clock, page, last, sockets, events, accept } = await connected();
  await clock.pass(1000);
  page.visible(false);
  last().lose();
  for (let i = 0; i < 200 && client.state !== "offline"; i += 1) {
    await clock.pass(10_000);
    if (client.state === "connecting") last().lose();
  }
  assert.equal(lastState(events).reason, "hidden");
  const tried = sockets.length;
  assert.ok(tried > 10);
  await clock.pass(1e8);
  assert.equal(sockets.length, tried);
  page.visible(true);
  await clock.pass(500);
  assert.equal(sockets.length, tried + 1);
  await accept();
  assert.equal(client.state, "open");
});

test("a hidden page keeps its connection, and replaces one that is lost", async () => {
  const { clock, page, last, sockets, fixed } = await connected();
  page.visible(false);
  for (let i = 0; i < 100; i += 1) {
    await clock.pass(20_000);
    last().receive(fixed("$ping", i));
  }
  assert.equal(sockets.length, 1);
  last().lose();
  await clock.pass(500);
  assert.equal(sockets.length, 2);
});

test("a page that goes for good says goodbye", async () => {
  const { client, page, last } = await connected();
  page.leave(false);
  assert.deepEqual(last().sent(), [["$bye", ""]]);
  assert.equal(client.state, "closed");
});

test("a page that the browser keeps goes on when it is back", async () => {
  const { client, page, last } = await connected();
  page.leave(true);
  assert.equal(client.state, "open");
  assert.deepEqual(last().sent(), []);
});

test("with a storage the session outlives the page", async () => {
  const { storage, kept } = memory();
  const first = await connected({ storage });
  assert.equal(kept(), null, "nothing lies there for a second page to find");
  const { client, last, frame, fixed } = first;
  client.request("a/b", "asked").catch(() => {});
  client.send("a/n", new Uint8Array([0, 255, 128]));
  await settle();
  const [[asked]] = last().sent();
  last().receive(frame("push", ""));
  first.page.leave(false);
  assert.deepEqual(last().sent(), []);
  assert.ok(last().closed);
  assert.equal(client.state, "offline");
  // What comes now is for the next page.
  last().receive(frame("push", ""));
  first.page.visible(true);
  first.page.online(true);
  await first.clock.pass(1e6);
  assert.equal(first.sockets.length, 1);

  const second = setUp({ storage });
  const seen = [];
  second.client.subscribe("*", (packet) => seen.push(packet.topic));
  second.client.send("a/n", "new");
  second.client.connect();
  assert.equal(kept(), null);
  const [[, hello], ...more] = await second.accept({ resumed: true, received: 1 });
  assert.deepEqual(JSON.parse(hello).resume, { token: "t-1", received: 1 });
  assert.deepEqual(more.map(([topic]) => topic), ["$ack", "a/n", "a/n"]);
  second.last().receive(frame(asked, "for the page before"));
  second.last().receive(frame("push", ""));
  assert.deepEqual(seen, ["push"]);
  second.last().receive(fixed("$ack", 3));
  const answer = second.client.request("a/b");
  await settle();
  const [[topic]] = second.last().sent();
  assert.notEqual(topic, asked);
  second.last().receive(frame(topic, "answered"));
  assert.equal((await answer).text(), "answered");
});

test("what waited when the page was left is sent by the next", async () => {
  const { storage } = memory();
  const first = await connected({ storage });
  first.last().lose();
  first.client.send("a", "waits");
  first.page.leave(false);
  const second = setUp({ storage });
  second.client.connect();
  const sent = await second.accept({ resumed: true });
  assert.deepEqual(sent.slice(1), [["$ack", 0], ["a", "waits"]]);
});

test("a page that is back takes its session again, unless another has", async () => {
  const { storage } = memory();
  const first = await connected({ storage });
  first.page.leave(true);
  first.page.back();
  const [[, hello]] = await first.accept({ resumed: true });
  assert.equal(JSON.parse(hello).resume.token, "t-1");
  first.page.leave(true);
  const second = setUp({ storage });
  second.client.connect();
  await second.accept({ resumed: true });
  first.page.back();
  const [[, other]] = await first.accept();
  assert.equal(JSON.parse(other).resume, undefined, "its token is spent");
  assert.equal(first.events.filter(([name]) => name === "lost").length, 1);
});

test("a storage that holds something else, or nothing, or fails, does no harm", async () => {
  const good = memory();
  const page = await connected({ storage: good.storage });
  page.client.send("a");
  page.page.leave(false);
  const saved = JSON.parse(good.kept());
  const texts = [
    null,
    "",
    "{",
    "null",
    "[]",
    JSON.stringify({ ...saved, format: 2 }),
    JSON.stringify({ ...saved, url: "ws://other.test/" }),
    JSON.stringify({ ...saved, received: "1" }),
    JSON.stringify({ ...saved, resumption: null }),
    JSON.stringify({ ...saved, sent: ["?"] }),
    JSON.stringify({ ...saved, waiting: [btoa("no frame")] }),
    JSON.stringify({ ...saved, prefix: "a/b" }),
  ];
  for (const text of texts) {
    const { client, accept } = setUp({ storage: { get: () => text, set() {}, remove() {} } });
    client.connect();
    const [[, hello]] = await accept();
    assert.equal(JSON.parse(hello).resume, undefined, text);
  }
  const fail = () => {
    throw new Error("quota");
  };
  const failing = await connected({ storage: { get: fail, set: fail, remove: fail } });
  failing.page.leave(false);
  assert.deepEqual(failing.last().sent(), [["$bye", ""]]);
});

test("a closed client does not listen to the page", async () => {
  const { client, page, clock, sockets } = await connected();
  assert.ok(page.listeners > 0);
  client.close();
  assert.equal(page.listeners, 0);
  page.online(true);
  page.visible(true);
  page.leave(false);
  page.back();
  await clock.pass(1e6);
  assert.equal(sockets.length, 1);
});
