// A real gate, and a proxy in front of it that cuts connections.

import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { createInterface } from "node:readline";
import { gateProgram } from "./tools.js";

/** Starts a gate. Answers the port of its WebSocket listener, and how to stop it. */
export async function startGate() {
  const child = spawn(gateProgram(), { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`the gate ended with ${code}`);
  });
  ended.catch(() => {});
  const lines = createInterface(child.stdout);
  const [line] = await Promise.race([once(lines, "line"), ended]);
  const port = Number(JSON.parse(line).websocket.split(":").at(-1));
  const stop = async () => {
    child.stdin.end();
    if (child.exitCode === null) await once(child, "exit");
  };
  return { port, url: `ws://127.0.0.1:${port}/`, stop };
}

/**
 * Starts a proxy to `port`. `budget()` is asked for each connection: after how many bytes, up
 * and down, it is cut, and `lag`, how many milliseconds later the gate finds out.
 */
export async function startProxy(port, budget) {
  const open = new Set();
  const proxy = { cuts: 0, connections: 0, isSilent: false };
  const server = net.createServer((client) => {
    proxy.connections += 1;
    const gate = net.connect(port, "127.0.0.1");
    const { up, down, lag } = budget();
    const left = new Map([
      [client, up],
      [gate, down],
    ]);
    let isCut = false;
    const cut = () => {
      if (isCut) return;
      isCut = true;
      proxy.cuts += 1;
      client.destroySoon();
      setTimeout(() => gate.destroySoon(), lag);
    };
    for (const [from, to] of [
      [client, gate],
      [gate, client],
    ]) {
      open.add(from);
      from.setNoDelay(true);
      from.on("data", (bytes) => {
        if (isCut || proxy.isSilent) return;
        const room = left.get(from);
        left.set(from, room - bytes.length);
        to.write(bytes.subarray(0, room));
        if (bytes.length > room) cut();
      });
      from.on("error", () => to.destroy());
      from.on("close", () => {
        open.delete(from);
        if (!isCut && !proxy.isSilent) to.end();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  proxy.url = `ws://127.0.0.1:${server.address().port}/`;
  proxy.stop = async () => {
    for (const socket of open) socket.destroy();
    server.close();
    await once(server, "close");
  };
  /** Cuts what is open now. */
  proxy.cut = () => {
    for (const socket of open) socket.destroy();
  };
  return proxy;
}
