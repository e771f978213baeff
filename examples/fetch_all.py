"""Fetch 200 documents over HTTP, a bounded number at a time, one durable step each.

    sostenuto run examples/fetch_all.py

The documents come from a small server that this file starts itself, on this machine alone. Kill
the run at any moment, with Ctrl-C or `kill -9`, and run the same command again: documents that
were fetched are read from the store, only the others are asked of the server.

What to know when writing such a file (stdlib_census.py beside this one begins at the beginning):

* Steps may run at the same time: gather them, and bound them with a plain asyncio.Semaphore.
* A step is known again by its place in the code and by its arguments. The server's port differs
  from run to run, so it must not be an argument: fetch() looks it up when it runs.
* What a step needs but cannot be stored (here: the server) is made outside of steps, again by
  each run.

Three environment variables, all optional: FETCH_COUNT documents are fetched instead of 200,
FETCH_REPORT names the report file (fetch_all_report.csv in the current directory), and FETCH_LOG
names a file to which every step that really runs appends one line (time, process, step).
"""

import asyncio
import csv
import hashlib
import http.client
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COUNT = int(os.environ.get("FETCH_COUNT", "200"))
IN_FLIGHT = 8
REPORT = Path(os.environ.get("FETCH_REPORT", "fetch_all_report.csv"))
WORDS = ("sustained", "notes", "carry", "on", "while", "the", "pedal", "holds", "them", "all")


class Documents(BaseHTTPRequestHandler):
    """Answer /documents/N with a text that is made from N, after a moment, as a server would."""

    def do_GET(self):
        number = int(self.path.rpartition("/")[2])
        dice = random.Random(number)
        time.sleep(dice.uniform(0.05, 0.15))
        body = " ".join(dice.choices(WORDS, k=dice.randint(50, 2000))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing: the progress line says what is fetched."""


def log_step(name):
    """Append one line to FETCH_LOG, whole even if several threads write at once."""
    if path := os.environ.get("FETCH_LOG"):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, f"{time.time():.6f} {os.getpid()} {name}\n".encode())
        os.close(log)


def fetch(number):
    """Fetch one document; store what the report needs of it, not the whole text."""
    log_step(number)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request("GET", f"/documents/{number}")
        reply = connection.getresponse()
        body = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise RuntimeError(f"document {number}: the server answered {reply.status} {reply.reason}")
    return {
        "document": number,
        "bytes": len(body),
        "words": len(body.split()),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def write_report(documents):
    """Write the report beside its place and move it there, so that no kill leaves half of it."""
    log_step("(report)")
    draft = REPORT.with_name(REPORT.name + ".part")
    with draft.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(documents[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(documents)
    draft.replace(REPORT)


async def fetch_when_free(number):
    """Wait for one of the places in flight, then run the step."""
    async with places:
        return await ctx.run(fetch, number)


places = asyncio.Semaphore(IN_FLIGHT)
server = ThreadingHTTPServer(("127.0.0.1", 0), Documents)  # port 0: any that is free
threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
try:
    documents = await asyncio.gather(*(fetch_when_free(number) for number in range(COUNT)))
finally:
    server.shutdown()
    server.server_close()

await ctx.run(write_report, documents)

longest = max(documents, key=lambda document: document["words"])
print(f"{len(documents)} documents; the report is in {REPORT.resolve()}")
{
    "documents": len(documents),
    "bytes": sum(document["bytes"] for document in documents),
    "words": sum(document["words"] for document in documents),
    "longest": longest["document"],
    "sha256": hashlib.sha256("".join(d["sha256"] for d in documents).encode()).hexdigest(),
}
