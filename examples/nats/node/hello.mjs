// A Tidegate service in JavaScript: a plain NATS micro service, as docs/nats.md has it.
import { connect, headers } from "@nats-io/transport-node";
import { Svcm } from "@nats-io/services";

const servers = (process.env.NATS_URL ?? "nats://127.0.0.1:4222").split(",");
const nc = await connect({ servers });
const service = await new Svcm(nc).add({ name: "hello", version: "1.0.0" });

async function ask(subject, body, topic) {
  const with_topic = headers();
  if (topic) with_topic.set("Tidegate-Topic", topic);
  const options = { timeout: 10_000, headers: with_topic };
  const reply = await nc.request(`tidegate.${subject}`, body, options);
  if (reply.headers?.has("Tidegate-Error")) throw new Error(reply.headers.get("Tidegate-Error"));
  return reply.data;
}
// What a method answers. `gate(op, …)` does something to the session that calls it.
const methods = {
  "*.hello.echo": (gate, body) => body,
  "g.hello.login": (gate, body) => gate("bind", JSON.stringify({ user: `${body}` })).then(() => body),
  "c.hello.note": (gate, body) => gate("set", JSON.stringify({ note: `${body}` })), // the session as it is now
  "c.hello.tell": (gate, body) => gate("send", body, "hello.told").then(() => body), // before the answer
  "c.hello.shout": (gate, body) => ask("any.broadcast", body, "hello.shouted"), // how many got it
  "c.hello.bye": (gate) => gate("close"),
  "e.hello.disconnected": (gate, body, session) => console.log("disconnected", session.id, `${body}`),
};
for (const [method, serve] of Object.entries(methods)) {
  const handler = async (_, request) => {
    const session = JSON.parse(request.headers.get("Tidegate-Session"));
    const gate = (op, ...rest) => ask(`gate.${session.gate}.${op}.${session.id}`, ...rest);
    try {
      request.respond(await serve(gate, Buffer.from(request.data), session));
    } catch (error) {
      request.respondError(1001, error.message);
    }
  };
  service.addEndpoint(method.slice(8), { subject: `tidegate.${method}`, handler });
}
await nc.flush().then(() => console.log("serving as", service.info().id));
