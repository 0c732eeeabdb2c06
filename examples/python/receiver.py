#!/usr/bin/python3
"""A receiver of wsrelay.v1: it appends the lines to a file, or prints them.

    receiver.py [--listen HOST:PORT] [FILE]

It follows docs/protocol.md. README.md says what it guarantees.
"""

import argparse
import asyncio
import contextlib
import fcntl
import http
import json
import logging
import os
import re
import signal
import sys

from websockets.exceptions import ConnectionClosed
from websockets.legacy.server import serve  # one API for all versions since 10

MAX, MAX_RAW, MAX_SEQ, LAST_TIME = 17 << 20, (16 << 20) + 1, 2**53 - 1, 253402300799999
HEARTBEAT, ACK_TIMEOUT, STEP = 20, 60, 10  # seconds
BATCHES = 4  # that may be under way
log = logging.getLogger("receiver")

TABLE = list(range(256))
for _ in range(8):
    TABLE = [c >> 1 ^ 0x82F63B78 * (c & 1) for c in TABLE]


def crc32c(data):
    c = 0xFFFFFFFF
    for byte in data:
        c = TABLE[(c ^ byte) & 255] ^ c >> 8
    return f"{c ^ 0xFFFFFFFF:08x}"


def uid(sid, seq):
    return sid + "".join("0123456789abcdefghijklmnopqrstuv"[seq >> shift & 31] for shift in range(60, -1, -5))


class End(Exception):
    """The end of a session: a close code and, unless all is well, why."""


def parse(text):
    try:
        m = json.loads(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):
        m = None
    return require(m, isinstance(m, dict), "not a JSON object")


def require(m, condition, what):
    if not condition:
        raise End(4400, what)
    return m


def whole(m, name, low, high=MAX_SEQ):
    value = m.setdefault(name, 0)
    require(m, type(value) is int and low <= value <= high, f"{name} is not a whole number from {low} to {high}")


def read_hello(message):
    hello = parse(require(message, isinstance(message, str) and len(message) <= 16384, "a hello is a short text"))
    require(hello, hello.get("t") == "hello", "hello comes first")
    if hello.get("v") != 1:
        raise End(4426, "this receiver speaks version 1")
    require(hello, re.fullmatch("[0-9a-v]{16}", str(hello.get("sid"))), "this is no sid")
    require(hello, len(str(hello.get("host", "")).encode(errors="replace")) <= 255, "the host's name is too long")
    whole(hello, "head", 1, MAX_SEQ + 1)
    whole(hello, "acked", 1, hello["head"])
    return hello


def read(message):
    """Gives the header of data and its payload, or a gap and None."""
    if isinstance(message, str):
        m, payload = parse(require(message, len(message) <= 262144, "a control frame is too long")), None
        if m.get("t") == "bye":
            raise End(1000)  # whatever came before it has its receipt
        require(m, m.get("t") == "gap" and m.get("why"), "a sender sends hello, data, gap and bye")
    else:
        head, newline, payload = message.partition(b"\n")
        require(head, newline and len(head) <= 4096, "no header line")
        m = parse(head)
        require(m, m.get("enc") and re.fullmatch("[0-9a-f]{8}", str(m.get("c"))), "enc or c is missing")
    for name in "b", "seq", "n":
        whole(m, name, 1)
    whole(m, "n", 1, MAX_SEQ - m["seq"] + 1)
    whole(m, "at", 0, LAST_TIME)
    if payload is not None:
        whole(m, "raw", m["n"])
    return m, payload


def refusal(m, payload):
    """Gives the nak code for a payload that is not what its header says."""
    if payload is None:  # a gap
        return None
    if m["raw"] > MAX_RAW:
        return "too_big"
    if crc32c(payload) != m["c"]:
        return "crc"
    if m["enc"] != "raw" or len(payload) != m["raw"] or payload.count(b"\n") != m["n"] or payload[-1:] != b"\n":
        return "decode"
    return None


def documents(sid, m, payload):
    """Gives the ids of the first and last document, and the lines."""
    first = uid(sid, m["seq"])
    if payload is not None:
        return {"first": first, "last": uid(sid, m["seq"] + m["n"] - 1)}, payload.split(b"\n")[:-1]
    first += f"g{m['n']}"
    gap = {name: m[name] for name in ("n", "why", "maybe", "at", "from", "to") if name in m}
    return {"first": first, "last": first}, [json.dumps({"wsrelay": {"id": first, "gap": gap}}).encode()]


class Stdout:
    """Remembers nothing: what comes again is printed again."""

    guarantee = "at-least-once"
    next = {}

    def append(self, sid, seq, n, lines):
        sys.stdout.buffer.write(b"".join(line + b"\n" for line in lines))
        sys.stdout.buffer.flush()
        return len(lines)


class File:
    """A file, and beside it FILE.state: how long the file is, and the number
    that each stream continues with. The state is replaced after the file is on
    disk and before the receipt. So what is in the file beyond that length has
    no receipt: the start cuts it off, and the sender sends it again."""

    guarantee = "exactly-once"

    def __init__(self, path):
        self.path, self.next = path + ".state", {}
        self.file = open(path, "ab", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one receiver for one file
        now = os.fstat(self.file.fileno())
        if os.path.exists(self.path):
            with open(self.path) as f:
                state = json.load(f)
            self.next = state["next"]
            if state["inode"] == now.st_ino and state["length"] < now.st_size:  # else FILE was rotated
                self.file.truncate(state["length"])
        self.save()

    def append(self, sid, seq, n, lines):
        """Stores those of the n records from seq on that are not there yet,
        and gives how many lines that took. A gap is one line for all of n."""
        old = max(self.next.get(sid, 1) - seq, 0)
        if old >= n:
            return 0
        if len(lines) == n:
            lines = lines[old:]
        data = memoryview(b"".join(line + b"\n" for line in lines))
        while data:
            data = data[self.file.write(data) :]
        os.fsync(self.file.fileno())
        self.next[sid] = seq + n
        self.save()
        return len(lines)

    def save(self):
        now = os.fstat(self.file.fileno())
        with open(self.path + ".new", "w") as f:
            json.dump({"inode": now.st_ino, "length": now.st_size, "next": self.next}, f)
            f.flush()
            os.fsync(f.fileno())
        os.rename(self.path + ".new", self.path)
        directory = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


class Receiver:
    def __init__(self, store):
        self.store, self.sessions, self.lock = store, {}, asyncio.Lock()

    async def serve(self, ws):
        with contextlib.suppress(ConnectionClosed):  # the sender comes back
            try:
                await self.session(ws)
            except End as end:
                code, *why = end.args
                if why:
                    log.warning("a session ends with %d: %s", code, why[0])
                    await say(ws, "err", code=code, msg=why[0])
                await ws.close(code)

    async def session(self, ws):
        try:
            hello = read_hello(await asyncio.wait_for(ws.recv(), STEP))
        except asyncio.TimeoutError:
            raise End(4408, "no hello in time") from None
        sid, acked, expect, ignoring = hello["sid"], hello["acked"], None, False
        older, self.sessions[sid] = self.sessions.get(sid), ws
        if older:  # the newer one wins: keep() lets the older one do nothing more
            self.closing = asyncio.create_task(older.close(4409))
        await say(ws, "welcome", max=MAX, max_raw=MAX_RAW, enc=["raw"], win={"bytes": 4 << 20, "batches": BATCHES},
                  hb=HEARTBEAT * 1000, ack_to=ACK_TIMEOUT * 1000, guarantee=self.store.guarantee, store="python")
        async for message in ws:
            m, payload = read(message)
            if expect is None and m["seq"] >= acked:
                expect = m["seq"]
                if self.store.next.get(sid, 1) > hello["head"]:
                    # We have lines under numbers that this sender has yet to give: its queue is an older copy.
                    await say(ws, "nak", b=m["b"], code="diverged", expect=expect)
                    raise End(1000)
            if m["seq"] != expect:
                if not ignoring:
                    await say(ws, "nak", b=m["b"], code="order", expect=expect or acked)
                ignoring = True
                continue
            code = await asyncio.to_thread(refusal, m, payload)
            ignoring = code is not None
            if ignoring:
                await say(ws, "nak", b=m["b"], code=code, expect=expect, max=MAX_RAW)
                continue
            ids, lines = documents(sid, m, payload)
            new = await self.keep(ws, sid, m["seq"], m["n"], lines)
            expect = m["seq"] + m["n"]
            await say(ws, "ack", seq=expect, b=m["b"], new=new, dup=len(lines) - new, uid=ids)

    async def keep(self, ws, sid, *records):
        async with self.lock:
            if self.sessions[sid] is not ws:
                raise End(4409, "a newer session has the same sid")
            work = asyncio.create_task(asyncio.to_thread(self.store.append, sid, *records))
            try:
                while not (await asyncio.wait({work}, timeout=ACK_TIMEOUT / 3))[0]:
                    await say(ws, "busy", why="disk")
                return work.result()
            except OSError as error:
                # Nobody knows what is on the disk now. The next start cuts it off.
                log.critical("the store has failed, lines that are not acknowledged are sent again: %s", error)
                os._exit(1)
            finally:
                await asyncio.wait({work})  # the lock must not be released before


async def say(ws, t, **members):
    await ws.send(json.dumps({"t": t, **members}))


async def only_wsrelay(path, headers):
    offered = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
    if "wsrelay.v1" not in [name.strip() for name in offered.split(",")]:
        return http.HTTPStatus.UPGRADE_REQUIRED, [], b"this speaks wsrelay.v1\n"


async def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--listen", default="127.0.0.1:8514", metavar="HOST:PORT")
    options.add_argument("file", nargs="?", metavar="FILE", help="default: standard output")
    options = options.parse_args()
    host, _, port = options.listen.rpartition(":")
    receiver = Receiver(File(options.file) if options.file else Stdout())
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with serve(
        receiver.serve, host, int(port),
        subprotocols=["wsrelay.v1"], process_request=only_wsrelay, origins=[None], compression=None,
        max_size=MAX,  # for hello, too: the library is bound to it for one message more than it is set for
        max_queue=BATCHES + 2, ping_interval=HEARTBEAT, ping_timeout=1.5 * HEARTBEAT,
    ):  # fmt: skip
        await stopped.wait()  # closes the sessions with 1001; a batch that is being stored is waited for


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    asyncio.run(main())
