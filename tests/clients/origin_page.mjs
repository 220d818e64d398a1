// Which origins may open a WebSocket? Asked of a real browser, Debian's Chromium.
//
//   node origin_page.mjs
//
// Serves one empty page under three hosts that all resolve to this process, and prints
//   {"origins": ["http://friend.example:PORT", "http://foreign.example:PORT", "http://127.0.0.1:PORT"]}
// Then, for each line on stdin, a WebSocket URL, it tries to open that URL from each of the
// pages and prints {"url": URL, "let_in": [ORIGIN, ...], "refused": [ORIGIN, ...]}.
// Ends with its stdin. The exit code is 0 unless the browser itself fails.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const modules = process.env.TIDEGATE_TEST_NODE_MODULES ??
  new URL("../../target/tools/node/node_modules", import.meta.url).pathname;
const { chromium } = createRequire(`${modules}/`)(`${modules}/playwright-core`);

// Runs inside the page. A refused upgrade is an `error` there, without a reason.
const tryToOpen = (url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  const settle = (outcome) => {
    resolve(outcome);
    socket.close();
  };
  socket.onopen = () => settle("let_in");
  socket.onerror = () => settle("refused");
  setTimeout(() => settle("silent"), 10_000);
});

const server = createServer((_, response) => {
  response.setHeader("content-type", "text/html");
  response.end("<!doctype html><title>origin</title>");
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address();
const origins = ["friend.example", "foreign.example", "127.0.0.1"].map((host) => `http://${host}:${port}`);

const browser = await chromium.launch({
  executablePath: process.env.TIDEGATE_TEST_CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox", // the tests may run as root, in a container
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    "--no-proxy-server",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
try {
  const pages = new Map();
  for (const origin of origins) {
    const page = await browser.newPage();
    await page.goto(`${origin}/`);
    pages.set(origin, page);
  }
  console.log(JSON.stringify({ origins }));

  for await (const url of createInterface({ input: process.stdin })) {
    const result = { url, let_in: [], refused: [] };
    for (const [origin, page] of pages) {
      (result[await page.evaluate(tryToOpen, url)] ??= []).push(origin);
    }
    console.log(JSON.stringify(result));
  }
} finally {
  await browser.close();
  server.close();
}
