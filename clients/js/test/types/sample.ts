// Not run: what must compile, and, below `@ts-expect-error`, what must not.

import {
  Client,
  CloseCode,
  ErrorCode,
  GateError,
  OutcomeUnknownError,
  TidegateError,
  TimeoutError,
  type Lost,
  type Packet,
  type State,
} from "tidegate-client";

interface Message {
  from: string;
  text: string;
}

/** As npm's `ws` has it. */
declare class Ws {
  binaryType: "nodebuffer" | "arraybuffer" | "fragments";
  constructor(address: string | URL, protocols?: string | string[], options?: object);
  send(data: string | ArrayBufferView): void;
  close(code?: number, data?: string | Uint8Array): void;
}

const client = new Client(new URL("wss://gate.example/"), {
  auth: async () => ({ token: "…" }),
  device: "phone",
  heartbeat: { client: 20_000, gate: 20_000 },
  backoff: { cap: 10_000 },
  maxQueued: { packets: 10 },
  prepare: async (first) => {
    const welcome = await first.request("chat/login", { name: "anna" });
    console.log(welcome.json<{ room: string }>().room, first.welcome.session);
  },
  storage: {
    get: () => sessionStorage.getItem("gate"),
    set: (text) => sessionStorage.setItem("gate", text),
    remove: () => sessionStorage.removeItem("gate"),
  },
});
new Client("ws://localhost:3654", { WebSocket: Ws });
new Client("ws://localhost:3654", { WebSocket, auth: "token", resume: false });
new Client("ws://localhost:3654", {
  clock: { now: Date.now, random: Math.random, setTimeout, clearTimeout: () => {} },
});

export async function use(): Promise<void> {
  const { session, user } = await client.connect();
  const name: string = user ?? session;
  const stop = client.subscribe("chat/", (packet: Packet) => {
    const { from, text } = packet.json<Message>();
    console.log(from, text, packet.body.length);
  });
  client.on("state", ({ state, delay }: State) => console.log(state, delay ?? 0));
  client.on("lost", ({ unknown }: Lost) => unknown.map((packet) => packet.topic));
  client.on("gap", ({ count }) => count + 1);
  client.on("error", (error) => {
    if (error instanceof GateError && error.code === ErrorCode.NOT_FOUND) console.log(error.text);
  });
  try {
    const signal = AbortSignal.timeout(500);
    const answer = await client.request("echo/echo", new Uint8Array(3), { signal, timeout: 1000 });
    console.log(answer.text());
  } catch (error) {
    if (error instanceof TimeoutError && !error.sent) console.log(error.topic);
    else if (error instanceof OutcomeUnknownError || error instanceof TidegateError) throw error;
  }
  client.send("chat/wave");
  client.send("chat/say", { to: name, tags: ["a", null] });
  for await (const { state, code } of client.states()) {
    if (state === "closed" && code === CloseCode.Kicked) break;
  }
  stop();
  client.close();

  // @ts-expect-error there is no such event
  client.on("nothing", () => {});
  // @ts-expect-error a function is no body
  client.send("a/b", () => {});
  // @ts-expect-error a topic is text
  client.subscribe(/a/, () => {});
  // @ts-expect-error a state is not set
  client.state = "open";
  // @ts-expect-error no number is any state
  const code: 4000 = CloseCode.Kicked;
  console.log(code);
}
