// Asks, is cut, resumes, and asks again, on the WebSocket that Node comes with.

import assert from "node:assert/strict";
import { Client } from "../../src/index.js";
import { startProxy } from "./gate.js";

const port = new URL(process.argv[2]).port;
const proxy = await startProxy(port, () => ({ up: Infinity, down: Infinity, lag: 0 }));
const client = new Client(proxy.url, { backoff: { base: 1, cap: 5 } });
const { session } = await client.connect();
const ask = async (text) => assert.equal((await client.request("history/echo", text)).text(), text);
await ask("one");
const answer = ask("two");
proxy.cut();
await answer;
assert.equal(client.session, session);
client.close();
await proxy.stop();
console.log("resumed");
