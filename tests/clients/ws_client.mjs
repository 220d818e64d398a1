// A scripted WebSocket client on npm's `ws`; the same contract as ws_client.py.
//
//   node ws_client.mjs URL '[STEP, ...]' ['{"origin": "http://a", "deflate": true}']
//
// STEP is one of
//   {"send_hex": "0102"}   {"send_text": "hi"}   {"ping": "0102"} (waits for its pong)
//   {"expect_hex": "0102"} {"expect_text": "hi"} {"expect_close": 1003} {"close": 1000}
// Prints what happens as JSON lines. The exit code is 0 only if every step passed in time.
import { createRequire } from "node:module";

const modules = process.env.TIDEGATE_TEST_NODE_MODULES ??
  new URL("../../target/tools/node/node_modules", import.meta.url).pathname;
const { WebSocket } = createRequire(`${modules}/`)(`${modules}/ws`);

const [url, steps, options] = [
  process.argv[2], JSON.parse(process.argv[3]), JSON.parse(process.argv[4] ?? "{}"),
];
const report = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const finish = (code, event, fields) => {
  report(event, fields);
  process.exit(code);
};
setTimeout(() => finish(1, "timeout"), options.timeout_ms ?? 10_000);

// Everything that arrives goes through one queue, so that a step sees events in their order.
const arrived = [];
let wake = () => {};
const arrive = (event, fields) => {
  report(event, fields);
  arrived.push({ event, ...fields });
  wake();
};
async function next(...kinds) {
  for (;;) {
    while (arrived.length === 0) await new Promise((resolve) => (wake = resolve));
    const first = arrived.shift();
    if (kinds.includes(first.event)) return first;
    if (first.event !== "ping") throw new Error(`waited for ${kinds}, got ${first.event}`);
  }
}

const hex = (data) => Buffer.from(data).toString("hex");
const socket = new WebSocket(url, {
  origin: options.origin,
  perMessageDeflate: options.deflate ?? false,
});
socket.on("open", () => arrive("open", { extensions: socket.extensions }));
socket.on("unexpected-response", (_, { statusCode }) => finish(1, "refused", { status: statusCode }));
socket.on("error", (error) => report("error", { message: error.message }));
socket.on("message", (data, isBinary) =>
  isBinary ? arrive("message", { hex: hex(data) }) : arrive("text", { text: data.toString() }));
socket.on("ping", (data) => arrive("ping", { hex: hex(data) }));
socket.on("pong", (data) => arrive("pong", { hex: hex(data) }));
socket.on("close", (code, reason) => arrive("close", { code, reason: reason.toString() }));

function same(got, wanted) {
  if (got !== wanted) throw new Error(`wanted ${wanted}, got ${got}`);
}

async function run(step) {
  const [[kind, value]] = Object.entries(step);
  const bytes = () => Buffer.from(value, "hex");
  switch (kind) {
    case "send_hex": return socket.send(bytes());
    case "send_text": return socket.send(value);
    case "expect_hex": return same((await next("message")).hex, value);
    case "expect_text": return same((await next("text")).text, value);
    case "expect_close": return same((await next("close")).code, value);
    case "ping":
      socket.ping(bytes());
      return same((await next("pong")).hex, value);
    case "close":
      socket.close(value, "bye");
      return same((await next("close")).code, value);
    default: throw new Error(`unknown step ${kind}`);
  }
}

let at = "open";
try {
  await next("open");
  for (const step of steps) {
    at = step;
    await run(step);
  }
  finish(0, "passed");
} catch (error) {
  finish(1, "failed", { step: at, message: error.message });
}
