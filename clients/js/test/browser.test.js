// The client in a real page: Chromium, a real gate, and a network that goes.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { startGate, startProxy } from "./support/gate.js";
import { ROOT, launchChromium } from "./support/tools.js";

let gate;
let server;
let browser;
before(async () => {
  gate = await startGate();
  server = await serve();
  browser = await launchChromium();
});
after(async () => {
  await browser?.close();
  server?.close();
  await gate?.stop();
});

/** The modules as they are, in a page that may run nothing else. */
async function serve() {
  const server = createServer(async ({ url }, response) => {
    const script = /^\/src\/\w+\.js$/.test(url);
    response.setHeader("content-type", script ? "text/javascript" : "text/html");
    response.setHeader("content-security-policy", "default-src 'none'; script-src 'self'; connect-src ws:");
    response.end(script ? await readFile(`${ROOT}clients/js${url}`) : "<!doctype html><title>t</title>");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  server.url = `http://127.0.0.1:${server.address().port}/`;
  return server;
}

/** Begins a client in the page: `window.client`, its states and pushes, and `window.stored`. */
async function begin(page, url) {
  await page.evaluate(async (url) => {
    const { Client } = await import("/src/index.js");
    const storage = {
      get: () => sessionStorage.getItem("gate"),
      set: (text) => sessionStorage.setItem("gate", text),
      remove: () => sessionStorage.removeItem("gate"),
    };
    const client = new Client(url, { storage, backoff: { base: 10, cap: 50 } });
    Object.assign(window, { client, states: [], pushes: [], lost: 0 });
    client.on("state", (state) => window.states.push(state));
    client.on("lost", () => (window.lost += 1));
    client.subscribe("history/push", (packet) => window.pushes.push(Number(packet.text())));
    await client.connect();
  }, url);
}

const session = (page) => page.evaluate(() => window.client.session);
const reaches = (page, state) =>
  page.waitForFunction((wanted) => window.client.state === wanted, state, { polling: 20 });
const pushed = async (page) => page.evaluate(() => window.pushes.splice(0));
const more = (page) => page.waitForFunction(() => window.pushes.length > 3, null, { polling: 20 });

test("a page whose network goes resumes when it is back, and after a reload", async (t) => {
  const proxy = await startProxy(gate.port, () => ({ up: Infinity, down: Infinity, lag: 0 }));
  t.after(() => proxy.stop());
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(server.url);
  await begin(page, proxy.url);
  const first = await session(page);
  const seen = [];
  await page.evaluate(() => window.client.send("history/start"));
  await more(page);

  proxy.isSilent = true;
  await context.setOffline(true);
  await reaches(page, "offline");
  seen.push(...(await pushed(page)));
  const answer = page.evaluate(async () => (await window.client.request("history/echo", "ü")).text());
  proxy.isSilent = false;
  await context.setOffline(false);
  await reaches(page, "open");
  assert.equal(await answer, "ü");
  assert.equal(await session(page), first);
  await more(page);
  seen.push(...(await pushed(page)));

  // The page's own end, whichever it is: what it has seen is asked for while it goes.
  await page.evaluate(() => {
    addEventListener("pagehide", () => sessionStorage.setItem("seen", JSON.stringify(window.pushes)));
  });
  await page.reload();
  seen.push(...(await page.evaluate(() => JSON.parse(sessionStorage.getItem("seen")))));
  await begin(page, proxy.url);
  assert.equal(await session(page), first);
  await more(page);
  const last = await page.evaluate(async () => (await window.client.request("history/stop")).text());
  seen.push(...(await pushed(page)));
  assert.deepEqual(seen, Array.from({ length: Number(last) }, (_, i) => i + 1));
  assert.equal(await page.evaluate(() => window.lost), 0);
  assert.equal(await page.evaluate(() => sessionStorage.getItem("gate")), null);
  assert.deepEqual(errors, []);
});

test("a page that is left and comes back goes on with its session", async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(server.url);
  await begin(page, gate.url);
  const first = await session(page);
  await page.goto(`${server.url}other`);
  assert.notEqual(await page.evaluate(() => sessionStorage.getItem("gate")), null);
  await page.goBack({ waitUntil: "commit" });
  if (await page.evaluate(() => window.client !== undefined)) {
    t.diagnostic("the browser kept the page");
    await reaches(page, "open");
  } else {
    await begin(page, gate.url);
  }
  assert.equal(await session(page), first);
});
