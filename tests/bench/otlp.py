"""Committed spans per second over OTLP/HTTP, beside the intake floor fed with the same bodies.

Flow: a real server process (critic off) or the floor -> 8 connections of this program -> spans acknowledged
per second, each of them checked to be a call in the end. Spans come two ways: each the root of a trace, which
is a call at once, and beneath a span that another request brings, which waits to close: calls are made of
those meanwhile, after one quiet second instead of ten, and the rest afterwards. The floor is that of
`tests.bench.intake_floor`: the protobuf messages walked, nothing understood. Turns alternate.

Each server first gets a load that is not counted: what it starts under load (our reading process) runs then,
and what it does once after its start (our first ranking, which "critic off" leaves on) is done. Memory is the
largest that our server and its reading process ever had.
"""

import contextlib
import http.client
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.background import start, stop
from ingest.settings import Settings
from tests.bench import intake_floor
from tests.bench.figures import Figure, options, peak_memory_mb, report
from tests.bench.intake_load import CONNECTIONS, call_of

BATCHES = (50, 500)
GOAL = "at least 0.65 of the same floor fed with OTLP"
MEMORY_GOAL = "Server and critic child stay below 250 MB each"
OURS = "lowlight"
#: Ours, with spans that wait for what may still come.
WAITING = "lowlight, waiting"
#: Sixteen bytes of trace id, half of them the request's own number.
_PLACE = b"@@@@@@@@"


def main() -> None:
    """Measure and report."""
    parser = options("Committed spans per second over OTLP/HTTP at batches of 50 and 500, beside a bare app.")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one turn (default 6)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each server and batch (default 3)")
    parser.add_argument("--warm-up", type=float, default=1.5, help="uncounted seconds before (default 1.5)")
    parser.add_argument("--serve-floor", nargs=2, metavar=("KIND", "FILE"), help="be the floor's server")
    args = parser.parse_args()
    if args.serve_floor:
        serve_floor(*args.serve_floor)
        return
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    closed: list[float] = []
    memory_mb: dict[str, float] = {}
    for turn in range(args.turns):
        for batch in BATCHES:
            n = range(max(2, 1000 // batch))
            bodies = [body_of(batch, args.seed + number) for number in n]
            beneath = [body_of(batch, args.seed + number, beneath=True) for number in n]
            for name in (OURS, WAITING, "loop", "thread"):
                with tempfile.TemporaryDirectory(prefix="lowlight-bench-") as folder:
                    path = Path(folder) / "calls.db"
                    with _served(name, path) as (address, process):
                        url = "/v1/traces" if name in (OURS, WAITING) else "/v1/calls"
                        ready = beneath if name == WAITING else bodies
                        before = _load(address, url, ready, args.warm_up, of=1)
                        began = time.perf_counter()
                        sent = _load(address, url, ready, args.seconds)
                        rates[name, batch].append(sent * batch / (time.perf_counter() - began))
                        if name in (OURS, WAITING):
                            for who, mb in _memory_mb(process).items():
                                memory_mb[who] = max(memory_mb.get(who, 0.0), mb)
                            rate = _close(path, (before + sent) * batch)
                            closed += [rate] if name == WAITING else []
                print(
                    f"turn {turn + 1}, batch {batch}: {name} {rates[name, batch][-1]:,.0f} spans/s",
                    flush=True,
                )
    figures = []
    for batch in BATCHES:
        value = statistics.median(rates[OURS, batch])
        floor = max(statistics.median(rates[kind, batch]) for kind in ("loop", "thread"))
        figures.append(Figure(f"spans_per_s_batch_{batch}", value, floor, GOAL, value >= 0.65 * floor))
        value = statistics.median(rates[WAITING, batch])
        figures.append(
            Figure(f"waiting_spans_per_s_batch_{batch}", value, floor, GOAL, value >= 0.65 * floor)
        )
    figures.append(Figure("calls_closed_per_s", statistics.median(closed)))
    for who, mb in memory_mb.items():
        figures.append(Figure(f"{who}_memory_mb", mb, goal=MEMORY_GOAL, holds=mb <= 250))
    report("otlp", figures)


def body_of(batch: int, seed: int, *, beneath: bool = False) -> bytes:
    """Return a request of `batch` GenAI spans with realistic texts, their trace ids to be filled in.

    Args:
        beneath: each has a parent, which is not in the request.
    """
    random_ = random.Random(seed)
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.genai.openai"
    for number in range(batch):
        call: dict[str, Any] = call_of(random_, number)
        span = scope.spans.add(name="chat", kind=3, trace_id=_PLACE + random_.randbytes(8))
        span.span_id = random_.randbytes(8)
        if beneath:
            span.parent_span_id = random_.randbytes(8)
        span.start_time_unix_nano = time.time_ns() - int(call["latency_ms"] * 1e6)
        span.end_time_unix_nano = time.time_ns()
        for key, value in {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": call["provider"],
            "gen_ai.request.model": call["model"],
            "gen_ai.response.model": call["model"],
            "gen_ai.response.id": f"chatcmpl-{_PLACE.decode()}{number}",
            "gen_ai.response.finish_reasons": '["stop"]',
            "gen_ai.usage.input_tokens": call["usage"]["input_tokens"],
            "gen_ai.usage.output_tokens": call["usage"]["output_tokens"],
            "session.id": call["session_id"],
            "user.id": call["user_id"],
            "gen_ai.input.messages": _messages("user", call["input"]),
            "gen_ai.output.messages": _messages("assistant", call["output"]),
        }.items():
            attribute = span.attributes.add(key=key)
            if isinstance(value, int):
                attribute.value.int_value = value
            else:
                attribute.value.string_value = value
    return request.SerializeToString()


def _messages(role: str, text: str) -> str:
    return orjson.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}]).decode()


def rows_of(body: bytes) -> list[tuple[Any, ...]]:
    """Return the floor's rows of an OTLP body: the messages walked, nothing looked at twice."""
    rows = []
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                told = {}
                for pair in span.attributes:
                    told[pair.key] = getattr(pair.value, pair.value.WhichOneof("value"))
                rows.append(
                    (
                        f"{span.trace_id.hex()}:{span.span_id.hex()}",
                        span.start_time_unix_nano,
                        span.end_time_unix_nano - span.start_time_unix_nano,
                        None,
                        told["gen_ai.provider.name"],
                        told["gen_ai.request.model"],
                        None,
                        None,
                        told["gen_ai.response.finish_reasons"],
                        told["gen_ai.usage.input_tokens"],
                        told["gen_ai.usage.output_tokens"],
                        told["user.id"],
                        told["session.id"],
                        None,
                        told["gen_ai.input.messages"],
                        told["gen_ai.output.messages"],
                    )
                )
    return rows


def serve_floor(kind: str, path: str) -> None:
    """Be the intake floor's server, for OTLP bodies."""
    intake_floor.rows_of = rows_of
    sys.argv = [sys.argv[0], kind, path]
    intake_floor.main()


@contextmanager
def _served(name: str, path: Path) -> Iterator[tuple[str, int]]:
    if name in (OURS, WAITING):
        settings = Settings(
            database_url=f"sqlite:///{path}", port=0, critic="none", refresh_s=86_400, otlp_quiet_s=1.0
        )
        ours, address = start(settings, path.with_suffix(".log"))
        try:
            _wait_for_first_ranking(address)
            yield address, ours.pid
        finally:
            stop(ours)
        return
    command = [sys.executable, "-m", "tests.bench.otlp", "--serve-floor", name, str(path)]
    floor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
    assert floor.stdout is not None
    try:
        yield floor.stdout.readline().strip(), floor.pid
    finally:
        floor.terminate()
        floor.wait(30)
        floor.stdout.close()


def _wait_for_first_ranking(address: str) -> None:
    """A new server ranks what it finds; it would find the load."""
    for _attempt in range(600):
        with urllib.request.urlopen(f"{address}/readyz") as answer:
            if orjson.loads(answer.read())["outliers"]["ran_at"] is not None:
                return
        time.sleep(0.1)
    sys.exit("the first ranking was not done within a minute")


def _memory_mb(server: int) -> dict[str, float]:
    """Return the largest memory that a server and its reading process have had so far."""
    found = {"server": peak_memory_mb(server)}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            if parent == server and b"ingest.reader" in (folder / "cmdline").read_bytes():
                found["reader"] = peak_memory_mb(folder.name)
    return found


def _load(address: str, path: str, bodies: list[bytes], seconds: float, of: int = 0) -> int:
    """Post from 8 connections for a while; return how many requests were acknowledged.

    Args:
        of: which of the loads of one server this is.
    """
    where = urlsplit(address)
    stop_at = time.perf_counter() + seconds
    acknowledged = [0] * CONNECTIONS

    def run(number: int) -> None:
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        while time.perf_counter() < stop_at:
            sent = acknowledged[number]
            body = bodies[sent % len(bodies)].replace(_PLACE, b"%d%d%06d" % (of, number, sent))
            connection.request("POST", path, body, {"content-type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                return
            acknowledged[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(acknowledged)


def _close(path: Path, acknowledged: int) -> float:
    """Wait until every acknowledged span is a call; return how many became one a second meanwhile."""
    began, before = time.perf_counter(), None
    with sqlite3.connect(path) as connection:
        while True:
            (kept,) = connection.execute("select count(*) from call").fetchone()
            before = kept if before is None else before
            if kept == acknowledged:
                return float((kept - before) / (time.perf_counter() - began))
            if time.perf_counter() - began > 120:
                sys.exit(f"{acknowledged} spans were acknowledged and {kept} are calls")
            time.sleep(0.05)


if __name__ == "__main__":
    main()
