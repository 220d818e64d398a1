// The whole client against a model of a gate, over a wire that is cut at any byte: nothing is
// lost, repeated or reordered. And that the checker would see it if something were.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/index.js";
import { Session } from "../src/session.js";
import { FakeClock, dice } from "./support/fake.js";
import { History } from "./support/history.js";
import { SimGate, simulated } from "./support/sim.js";

/** Runs one client through `connections` cuts. Answers all that went wrong. */
async function run(seed, connections) {
  const random = dice(seed);
  const clock = new FakeClock(random);
  const history = new History();
  const gate = new SimGate(history, random);
  let cuts = 0;
  const bytes = () => Math.floor(random() * (random() < 0.5 ? 900 : 5000));
  const where = () =>
    cuts < connections ? { up: bytes(), down: bytes() } : { up: Infinity, down: Infinity };
  const WebSocket = simulated({ clock, random, gate, cuts: where, onCut: () => (cuts += 1) });
  const options = { WebSocket, clock, requestTimeout: Infinity, backoff: { base: 50, cap: 500 } };
  const client = new Client("ws://gate.test/", options);
  let pushes = 0;
  client.subscribe("sim/push", (packet) => {
    pushes += 1;
    history.taken("push", packet.text());
  });
  client.on("gap", ({ count }) => {
    assert.equal(count, 3);
    history.taken("push", `gap after ${pushes + 1}`);
  });
  client.on("lost", () => gate.problems.push("the session was not resumed"));
  client.connect();
  let note = 0;
  let asked = 0;
  const wrong = { asked: 0, failed: 0 };
  const step = () => {
    // No more than is kept: this is about cuts, not about a queue that is full.
    const taken = gate.sessions.reduce((sum, session) => sum + session.received, 0);
    const mayAsk = note + asked + wrong.asked - taken < 100;
    const dice = mayAsk ? random() : 1;
    if (dice < 0.4) {
      note += 1;
      history.sent("note", note);
      client.send("sim/note", String(note));
    } else if (dice < 0.6) {
      asked += 1;
      const id = asked;
      history.asked(id);
      client.request("sim/echo", String(id)).then(
        (packet) => history.answered(id, packet.text()),
        (error) => history.failed(id, error),
      );
    } else if (dice < 0.7) {
      wrong.asked += 1;
      client.request("sim/wrong", "").then(
        () => history.failed("wrong", "was answered"),
        (error) => (wrong.failed += error.name === "GateError" && error.code === 3),
      );
    } else if (gate.sessions.length > 0) {
      const session = gate.sessions.at(-1);
      if (session.confirmed ?? session.connection?.isFirst === false) {
        session.confirmed = true;
        gate.push(session);
      }
    }
  };
  for (let steps = 0; cuts < connections && steps < connections * 200; steps += 1) {
    step();
    await clock.pass(random() * 60);
  }
  // The last connection holds until everything has arrived.
  await clock.pass(200_000);
  const problems = [...gate.problems, ...history.problems()];
  if (cuts < connections) problems.push(`only ${cuts} cuts`);
  if (wrong.failed !== wrong.asked) problems.push(`${wrong.asked} errors, ${wrong.failed} arrived`);
  client.close();
  return { problems, cuts, note, asked, pushes, fresh: gate.fresh };
}

test("thousands of cuts: every packet arrives once and in order", async (t) => {
  const sum = { cuts: 0, note: 0, asked: 0, pushes: 0 };
  for (let seed = 1; seed <= 60; seed += 1) {
    const result = await run(seed, 60);
    assert.deepEqual(result.problems.slice(0, 10), [], `seed ${seed}`);
    for (const key of Object.keys(sum)) sum[key] += result[key];
  }
  const found = JSON.stringify(sum);
  t.diagnostic(found);
  const { cuts, note, asked, pushes } = sum;
  assert.ok(cuts >= 3000 && note > 10_000 && asked > 5000 && pushes > 10_000, found);
});

/** Replaces a method of the session's, while `body` runs. */
async function broken(name, replace, body) {
  const original = Object.getOwnPropertyDescriptor(Session.prototype, name);
  Object.defineProperty(Session.prototype, name, { value: replace(original.value) });
  try {
    return await body();
  } finally {
    Object.defineProperty(Session.prototype, name, original);
  }
}

const again = (change) => (welcome) =>
  function (control) {
    const result = welcome.call(this, control);
    return { ...result, again: change(result.again) };
  };

const FAULTS = {
  "what the gate has not taken is not written again": ["welcome", again(() => [])],
  "it is written again in another order": ["welcome", again((items) => items.toReversed())],
  "it is written twice": ["welcome", again((items) => items.flatMap((item) => [item, item]))],
  "errors are not counted": [
    "take",
    (take) =>
      function (packet) {
        if (packet.topic !== "$error") return take.call(this, packet);
        return { kind: "$error", ...packet.json() };
      },
  ],
  "gaps count one": [
    "take",
    (take) =>
      function (packet) {
        if (packet.topic !== "$gap") return take.call(this, packet);
        take.call(this, { topic: "gap" });
        return { kind: "$gap", ...packet.json() };
      },
  ],
  "the gate is told of one packet less": [
    "resumeRequest",
    (request) =>
      function () {
        const asked = request.call(this);
        return asked && { ...asked, received: Math.max(0, asked.received - 1) };
      },
  ],
  "the gate is told of one packet more": [
    "resumeRequest",
    (request) =>
      function () {
        const asked = request.call(this);
        return asked && { ...asked, received: asked.received + 1 };
      },
  ],
  "the new token is not kept": [
    "welcome",
    (welcome) =>
      function (control) {
        const before = this.resumption;
        const result = welcome.call(this, control);
        this.resumption = before ?? this.resumption;
        return result;
      },
  ],
};

for (const [fault, [name, replace]] of Object.entries(FAULTS)) {
  test(`the checker sees it when ${fault}`, async (t) => {
    await broken(name, replace, async () => {
      let problems = [];
      for (let seed = 1; problems.length === 0 && seed <= 5; seed += 1) {
        problems = (await run(seed, 20)).problems;
      }
      assert.notDeepEqual(problems, []);
      t.diagnostic(problems.slice(0, 3).join("; "));
    });
  });
}

test("the checker sees what is lost, repeated, reordered, invented, or answered wrongly", () => {
  const checked = (taken, more = () => {}) => {
    const history = new History();
    for (const n of [1, 2, 3]) history.sent("x", n);
    for (const n of taken) history.taken("x", n);
    more(history);
    return history.problems();
  };
  assert.deepEqual(checked([1, 2, 3]), []);
  assert.deepEqual(checked([1, 3]), ["x 2: is lost"]);
  assert.deepEqual(checked([1, 2, 2, 3]), ["x 2: arrived again"]);
  assert.deepEqual(checked([1, 3, 2]), ["x 3: arrived where 2 should have"]);
  assert.deepEqual(checked([1, 2, 3, 4]), ["x 4: was never sent"]);
  assert.deepEqual(checked([1, 2, 3], (h) => h.asked(7)), ["request 7: 0 answers"]);
  const wrong = (h) => (h.asked(7), h.answered(7, 8));
  assert.deepEqual(checked([1, 2, 3], wrong), ["request 7: answered 8"]);
});
