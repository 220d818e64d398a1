"""A Tidegate service in Python: a plain NATS micro service, as docs/nats.md has it."""
import asyncio, json, os, nats, nats.micro

async def ask(subject, body=b"", headers=None):
    reply = await nc.request(f"tidegate.{subject}", body, timeout=10, headers=headers)
    if error := (reply.headers or {}).get("Tidegate-Error"):
        raise ValueError(error)
    return reply.data

async def serve(request):
    session, answer = json.loads(request.headers["Tidegate-Session"]), request.data
    this = lambda op: f"gate.{session['gate']}.{op}.{session['id']}"
    try:
        match request.subject.rsplit(".", 1)[1]:
            case "login":  # binds a user to the session
                answer = await ask(this("bind"), json.dumps({"user": answer.decode()}).encode())
            case "note":  # keeps something in it
                answer = await ask(this("set"), json.dumps({"note": answer.decode()}).encode())
            case "tell":  # pushes to it, then answers
                answer = await ask(this("send"), answer, {"Tidegate-Topic": "hello.told"})
            case "shout":  # to the sessions of all gates; answers how many got it
                answer = await ask("any.broadcast", answer, {"Tidegate-Topic": "hello.shouted"})
            case "bye":
                answer = await ask(this("close"))
            case "disconnected":
                return print("disconnected", answer.decode(), flush=True)
        await request.respond(answer)
    except (ValueError, nats.errors.Error) as error:
        await request.respond_error("1001", str(error))

async def main():
    global nc
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(","))
    service = await nats.micro.add_service(nc, name="hello", version="1.0.0")
    for subject in ["*.hello.echo", "g.hello.login", "c.hello.note", "c.hello.tell", "c.hello.shout",
                    "c.hello.bye", "e.hello.disconnected"]:
        await service.add_endpoint(name=subject[8:], subject=f"tidegate.{subject}", handler=serve)
    await asyncio.Event().wait()

asyncio.run(main())
