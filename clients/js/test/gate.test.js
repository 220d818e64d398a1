// The client on npm's `ws` against a real gate.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { decode } from "../src/codec.js";
import {
  Client,
  CloseCode,
  ClosedError,
  ErrorCode,
  GateError,
  OutcomeUnknownError,
  QueueFullError,
  TimeoutError,
} from "../src/index.js";
import { dice } from "./support/fake.js";
import { startGate, startProxy } from "./support/gate.js";
import { History } from "./support/history.js";
import { npmWebSocket } from "./support/tools.js";

const SEED = Number(process.env.TIDEGATE_TEST_SEED ?? 1);
const [CLIENTS, CUTS] = [10, 300];
const never = () => ({ up: Infinity, down: Infinity, lag: 0 });
const WebSocket = npmWebSocket();

let gate;
before(async () => (gate = await startGate()));
after(() => gate?.stop());

/** A client that is closed when the test is over. */
function connectTo(t, url, options) {
  const client = new Client(url, { WebSocket, backoff: { base: 1, cap: 5 }, ...options });
  t.after(() => client.close());
  return client;
}

const reached = (client, wanted) =>
  new Promise((resolve) => {
    const stop = client.on("state", (state) => {
      if (state.state !== wanted) return;
      stop();
      resolve(state);
    });
  });

/** Lives through `CUTS` cuts. Answers what went wrong. */
async function live(t, seed) {
  const random = dice(seed);
  const history = new History();
  let isOver = false;
  const bytes = () => Math.floor(random() * (random() < 0.6 ? 1200 : 8000));
  const proxy = await startProxy(gate.port, () =>
    isOver ? never() : { up: bytes(), down: bytes(), lag: random() < 0.5 ? 0 : random() * 20 },
  );
  t.after(() => proxy.stop());
  const client = connectTo(t, proxy.url, { requestTimeout: Infinity, connectTimeout: 60_000 });
  const lost = [];
  client.on("lost", (what) => lost.push(JSON.stringify(what)));
  let resumed = 0;
  client.on("state", (state) => (resumed += state.resumed === true));
  client.subscribe("history/push", (packet) => history.taken("push", packet.text()));
  client.connect();
  client.send("history/start");
  let [note, asked, open] = [0, 0, 0];
  for (let connections = 0; proxy.cuts < CUTS; ) {
    for (let i = 0; i < 5; i += 1) {
      note += 1;
      history.sent("note", note);
      client.send("history/note", String(note));
      asked += 1;
      const id = asked;
      history.asked(id);
      open += 1;
      client
        .request("history/echo", String(id))
        .then(
          (packet) => history.answered(id, packet.text()),
          (error) => history.failed(id, error),
        )
        .finally(() => (open -= 1));
    }
    // On with it when little is under way, or the connection has changed and it is not much.
    const mayGoOn = () => open <= 10 || (open <= 60 && connections !== proxy.connections);
    while (!mayGoOn() && proxy.cuts < CUTS) await new Promise((resolve) => setTimeout(resolve, 1));
    connections = proxy.connections;
  }
  isOver = true;
  // Behind all that was sent before. If something is lost for good, nothing comes any more.
  const last = (method) => client.request(method, "", { timeout: 30_000 });
  const pushed = Number((await last("history/stop")).text());
  const notes = (await last("history/notes")).json();
  for (let n = 1; n <= pushed; n += 1) history.sent("push", n);
  for (const n of notes) history.taken("note", n);
  return { problems: [...lost, ...history.problems()], cuts: proxy.cuts, resumed, note, pushed };
}

test("thousands of cuts: every packet arrives once and in order", async (t) => {
  const seeds = Array.from({ length: CLIENTS }, (_, i) => SEED * 1000 + i);
  const results = await Promise.all(seeds.map((seed) => live(t, seed)));
  const sum = { cuts: 0, resumed: 0, note: 0, pushed: 0 };
  results.forEach((result, i) => {
    assert.deepEqual(result.problems.slice(0, 10), [], `seed ${seeds[i]}`);
    for (const key of Object.keys(sum)) sum[key] += result[key];
  });
  t.diagnostic(JSON.stringify(sum));
  assert.ok(sum.cuts >= CLIENTS * CUTS && sum.resumed > sum.cuts / 4);
});

test("a session begins, answers, refuses, and says goodbye", async (t) => {
  const client = connectTo(t, gate.url, { auth: async () => ({ user: "anna" }) });
  const welcome = await client.connect();
  assert.equal(welcome.user, "anna");
  assert.equal(client.user, "anna");
  assert.equal(client.session, welcome.session);
  assert.equal(welcome.resumed, false);
  assert.ok(client.resumable);
  const answer = await client.request("history/echo", { über: [1, null] });
  assert.deepEqual(answer.json(), { über: [1, null] });
  await assert.rejects(client.request("history/nothing"), (error) => {
    assert.ok(error instanceof GateError);
    assert.equal(error.code, ErrorCode.NOT_FOUND);
    return true;
  });
  const failed = new Promise((resolve) => client.on("error", resolve));
  client.send("history/echo");
  assert.equal((await failed).code, ErrorCode.ID_REQUIRED);
  await assert.rejects(client.request("history/never", "", { timeout: 50 }), TimeoutError);
  client.close();
  assert.equal(client.state, "closed");
  await assert.rejects(client.request("history/echo"), ClosedError);
});

test("a client without resume is acknowledged too, and sends as much as it likes", async (t) => {
  const client = connectTo(t, gate.url, { resume: false });
  await client.connect();
  assert.equal(client.resumable, false);
  const wanted = Array.from({ length: 1000 }, (_, n) => String(n));
  for (const n of wanted) {
    for (let isSent = false; !isSent; ) {
      try {
        client.send("history/note", n);
        isSent = true;
      } catch (error) {
        assert.ok(error instanceof QueueFullError);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  }
  const notes = await client.request("history/notes", "", { timeout: Infinity });
  assert.deepEqual(notes.json(), wanted);
});

test("another user does not get the session", async (t) => {
  let user = "anna";
  const proxy = await startProxy(gate.port, never);
  t.after(() => proxy.stop());
  const client = connectTo(t, proxy.url, { auth: () => ({ user }) });
  await client.connect();
  const outcome = client.request("history/never");
  outcome.catch(() => {});
  await client.request("history/echo");
  const lost = new Promise((resolve) => client.on("lost", resolve));
  user = "bert";
  const back = reached(client, "open");
  proxy.cut();
  assert.deepEqual((await back).refused.code, 4);
  assert.equal((await lost).refused.code, 4);
  assert.equal(client.user, "bert");
  await assert.rejects(outcome, OutcomeUnknownError);
});

test("a client that is refused, or kicked, does not come again", async (t) => {
  const refused = connectTo(t, gate.url, { auth: () => ({ refuse: true }) });
  await assert.rejects(refused.connect(), (error) => {
    assert.ok(error instanceof ClosedError);
    assert.equal(error.code, CloseCode.AuthenticationRefused);
    return true;
  });
  const kicked = connectTo(t, gate.url);
  await kicked.connect();
  const closed = reached(kicked, "closed");
  kicked.send("history/kick");
  assert.equal((await closed).code, CloseCode.Kicked);
});

test("a connection that has gone silent is found out, and the session goes on", async (t) => {
  const proxy = await startProxy(gate.port, never);
  t.after(() => proxy.stop());
  const client = connectTo(t, proxy.url, { heartbeat: { client: 1000, gate: 1000 } });
  await client.connect();
  const session = client.session;
  proxy.isSilent = true;
  const answer = client.request("history/echo", "still here", { timeout: Infinity });
  const waiting = await reached(client, "waiting");
  assert.equal(waiting.reason, "the gate is silent");
  proxy.isSilent = false;
  assert.equal((await answer).text(), "still here");
  assert.equal(client.session, session);
});

for (const [who, heartbeat, sign] of [
  ["the client", { client: 1000, gate: 25_000 }, "$pong"],
  ["the gate", { client: 25_000, gate: 1000 }, "$ping"],
]) {
  test(`${who} is heard when there is nothing to say`, async (t) => {
    let hear;
    const heard = new Promise((resolve) => (hear = resolve));
    class Watched extends WebSocket {
      set onmessage(handler) {
        super.onmessage = (event) => {
          if (decode(event.data).topic === sign) hear();
          handler(event);
        };
      }
    }
    const client = connectTo(t, gate.url, { WebSocket: Watched, heartbeat });
    const welcome = await client.connect();
    assert.deepEqual(welcome.heartbeat, heartbeat);
    await heard;
    assert.equal((await client.request("history/echo", "x")).text(), "x");
  });
}

test("the same runs on Node's own WebSocket", async () => {
  // From Node 22 on it is there without the option.
  const script = fileURLToPath(new URL("support/own_websocket.js", import.meta.url));
  const args = ["--experimental-websocket", script, gate.url];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 30_000 });
  assert.equal(stdout.trim(), "resumed");
});
