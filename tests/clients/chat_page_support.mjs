// What the chat page's test runs on: the demo, a tunnel in front of its gate, a browser.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { once } from "node:events";
import { createRequire } from "node:module";
import net from "node:net";

const modules = process.env.TIDEGATE_TEST_NODE_MODULES ??
  new URL("../../target/tools/node/node_modules", import.meta.url).pathname;

/** Debian's Chromium, without a window. */
export async function launch() {
  const { chromium } = createRequire(`${modules}/`)(`${modules}/playwright-core`);
  const executablePath = process.env.TIDEGATE_TEST_CHROMIUM ?? "/usr/bin/chromium";
  if (!existsSync(executablePath)) throw new Error(`${executablePath} is missing: run scripts/install-test-tools`);
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox", // the tests may run as root, in a container
      "--no-proxy-server",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** `tidegate demo` on free ports; the page on `page`, if that is given. */
export async function startDemo(program, more, page = "127.0.0.1:0") {
  const free = ["--tcp", "--ws", "--admin"].flatMap((flag) => [flag, "127.0.0.1:0"]);
  const child = spawn(program, ["demo", ...free, "--page", page, ...more], { stdio: ["ignore", "pipe", "pipe"] });
  let printed = "";
  let log = "";
  child.stderr.on("data", (bytes) => (log += bytes));
  const ended = once(child, "exit");
  const ready = (async () => {
    for await (const bytes of child.stdout) {
      printed += bytes;
      if (printed.includes("admin ")) return;
    }
    await ended;
    throw new Error(`the demo ended with ${child.exitCode}:\n${printed}${log}`);
  })();
  await ready;
  child.stdout.resume();
  const pageAddress = /http:\/\/(127\.0\.0\.1:\d+)\//.exec(printed)[1];
  const wsPort = Number(/ws:\/\/127\.0\.0\.1:(\d+)\//.exec(printed)[1]);
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  return { url: `http://${pageAddress}/`, pageAddress, wsPort, stop };
}

/**
 * A tunnel to `port`, to be set once that is known. What `block(connection)` names, and what
 * comes after it, gets nothing through and is told nothing; until `unblock()`, which is when
 * both ends of those learn that they are gone.
 */
export async function startTunnel() {
  const open = new Set();
  const blocked = new Set();
  let isBlocking = false;
  const tunnel = { port: 0, newest: null };
  const server = net.createServer((client) => {
    const connection = { client, gate: null };
    client.on("error", () => {});
    open.add(client);
    if (isBlocking) {
      blocked.add(connection);
      return;
    }
    const gate = net.connect(tunnel.port, "127.0.0.1");
    gate.on("error", () => client.destroy());
    open.add(gate);
    connection.gate = gate;
    tunnel.newest = connection;
    for (const [from, to] of [[client, gate], [gate, client]]) {
      from.setNoDelay(true);
      from.on("data", (bytes) => blocked.has(connection) || to.write(bytes));
      from.on("close", () => {
        open.delete(from);
        if (!blocked.has(connection)) to.end();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  tunnel.url = `ws://127.0.0.1:${server.address().port}/`;
  tunnel.block = (connection) => {
    blocked.add(connection);
    isBlocking = true;
  };
  tunnel.unblock = () => {
    isBlocking = false;
    for (const { client, gate } of blocked) {
      client.destroy();
      gate?.destroy();
    }
    blocked.clear();
  };
  tunnel.stop = () => {
    for (const socket of open) socket.destroy();
    server.close();
  };
  return tunnel;
}
