// A Tidegate service in JavaScript: a plain NATS micro service, as docs/nats.md has it.
import { connect, headers as noHeaders } from "@nats-io/transport-node";
import { Svcm } from "@nats-io/services";

const nc = await connect({ servers: (process.env.NATS_URL ?? "nats://127.0.0.1:4222").split(",") });
const service = await new Svcm(nc).add({ name: "hello", version: "1.0.0" });

async function ask(subject, body, topic) {
  const headers = noHeaders();
  if (topic) headers.set("Tidegate-Topic", topic);
  const reply = await nc.request(`tidegate.${subject}`, body, { timeout: 10_000, headers });
  if (reply.headers?.has("Tidegate-Error")) throw new Error(reply.headers.get("Tidegate-Error"));
  return reply.data;
}
// `gate(op, …)` asks for something to be done to the session that calls.
const methods = {
  "*.hello.echo": (gate, body) => body,
  "g.hello.login": (gate, body) => gate("bind", JSON.stringify({ user: `${body}` })), // binds a user to it
  "c.hello.note": (gate, body) => gate("set", JSON.stringify({ note: `${body}` })), // keeps something in it
  "c.hello.tell": (gate, body) => gate("send", body, "hello.told"), // pushes to it, then answers
  "c.hello.shout": (gate, body) => ask("any.broadcast", body, "hello.shouted"), // answers how many got it
  "c.hello.bye": (gate) => gate("close"),
  "e.hello.disconnected": (gate, body) => console.log("disconnected", `${body}`),
};
for (const [method, serve] of Object.entries(methods)) {
  const handler = async (_, request) => {
    const session = JSON.parse(request.headers.get("Tidegate-Session"));
    const gate = (op, ...rest) => ask(`gate.${session.gate}.${op}.${session.id}`, ...rest);
    try {
      request.respond(await serve(gate, Buffer.from(request.data)));
    } catch (error) {
      request.respondError(1001, error.message);
    }
  };
  service.addEndpoint(method.slice(8), { subject: `tidegate.${method}`, handler });
}
