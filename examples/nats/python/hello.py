"""A Tidegate service in Python: a plain NATS micro service, as docs/nats.md has it."""
import asyncio, json, os, signal
import nats, nats.micro

async def ask(subject, body=b"", **headers):
    reply = await nc.request(f"tidegate.{subject}", body, timeout=10, headers=headers or None)
    if error := (reply.headers or {}).get("Tidegate-Error"):
        raise ValueError(error)
    return reply.data

async def serve(request):
    session, answer = json.loads(request.headers["Tidegate-Session"]), request.data
    this = lambda op: f"gate.{session['gate']}.{op}.{session['id']}"
    try:
        match request.subject.rsplit(".", 1)[1]:
            case "login":  # binds a user to the session
                await ask(this("bind"), json.dumps({"user": answer.decode()}).encode())
            case "note":  # keeps something in the session, and answers the session as it is now
                answer = await ask(this("set"), json.dumps({"note": answer.decode()}).encode())
            case "tell":  # pushes to the session, before the answer
                await ask(this("send"), answer, **{"Tidegate-Topic": "hello.told"})
            case "shout":  # pushes to the sessions of all gates, and answers how many got it
                answer = await ask("any.broadcast", answer, **{"Tidegate-Topic": "hello.shouted"})
            case "bye":
                await ask(this("close"))
            case "disconnected":
                return print("disconnected", session["id"], answer.decode(), flush=True)
        await request.respond(answer)  # "echo": with what came
    except ValueError as error:
        await request.respond_error("1001", str(error))

async def main():
    global nc
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(","))
    service = await nats.micro.add_service(nc, name="hello", version="1.0.0")
    for method in ["*.hello.echo", "g.hello.login", "c.hello.note", "c.hello.tell", "c.hello.shout", "c.hello.bye", "e.hello.disconnected"]:
        await service.add_endpoint(name=method[8:], subject=f"tidegate.{method}", handler=serve)
    print("serving as", service.id, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
