"""The SDK across forks and at the end of a process, each in a process of its own."""

import json

import pytest

from tests.sdk.conftest import RunProgram
from tests.sdk.fake_server import FakeServer, hang, refuse, running


def outputs(server: FakeServer) -> list[str]:
    """The outputs of the calls kept, sorted."""
    return sorted(call["output"] for call in server.calls.values())


def test_what_is_queued_at_the_end_of_the_process_is_sent(
    server: FakeServer, run_program: RunProgram
) -> None:
    source = """
import lowlight
for i in range(700): lowlight.record(str(i))
lowlight.signal("copy", session_id="s")
"""
    done = run_program(source, LOWLIGHT_URL=server.url, LOWLIGHT_RELEASE="r7", LOWLIGHT_ENVIRONMENT="staging")
    assert (done.returncode, done.stderr) == (0, "")
    assert outputs(server) == sorted(str(i) for i in range(700))
    assert len(server.signals) == 1
    assert {(call["release"], call["environment"]) for call in server.calls.values()} == {("r7", "staging")}


def test_what_is_recorded_by_the_applications_own_functions_at_exit_is_sent(
    server: FakeServer, run_program: RunProgram
) -> None:
    source = """
import atexit, lowlight
atexit.register(lambda: lowlight.record("4"))
lowlight.record("3")
"""
    done = run_program(source, LOWLIGHT_URL=server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert outputs(server) == ["3", "4"]


def test_a_process_that_fails_sends_what_it_recorded(server: FakeServer, run_program: RunProgram) -> None:
    done = run_program("import lowlight\nlowlight.record('4')\n1/0", LOWLIGHT_URL=server.url)
    assert "ZeroDivisionError" in done.stderr
    assert outputs(server) == ["4"]


@pytest.mark.parametrize("trouble", ["hung", "gone", "busy"])
def test_a_server_in_trouble_holds_the_end_up_two_seconds_at_most(
    server: FakeServer, run_program: RunProgram, trouble: str
) -> None:
    url = server.url
    if trouble == "hung":
        server.orders.append(hang(10))
    elif trouble == "busy":
        server.orders.append(refuse(503, Retry_After="60"))
    else:
        with running() as gone:
            url = gone.url
    source = """
import atexit, time
atexit.register(lambda: print(time.monotonic() - began))  # runs last
import lowlight
lowlight.record("4")
began = time.monotonic()
"""
    done = run_program(source, LOWLIGHT_URL=url)
    # 2 s, and what a busy machine adds; the server would hold it for 10 or 60
    assert 1.9 < float(done.stdout) < 8
    assert f"1 dropped: {url} had not taken them" in done.stderr


def test_disabled_by_the_environment(server: FakeServer, run_program: RunProgram) -> None:
    source = "import lowlight, threading\nprint(len(lowlight.record('4')), threading.active_count())"
    done = run_program(source, LOWLIGHT_URL=server.url, LOWLIGHT_ENABLED="false")
    assert done.stdout.split() == ["36", "1"]
    assert server.requests == []


def test_the_environment_is_read_at_the_first_use(server: FakeServer, run_program: RunProgram) -> None:
    source = f"import lowlight, os\nos.environ['LOWLIGHT_URL'] = {server.url!r}\nlowlight.record('4')"
    run_program(source, LOWLIGHT_URL="http://127.0.0.1:1")
    assert outputs(server) == ["4"]


FORKS = """
import json, os, sys, time, lowlight
{before}
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        lowlight.record(f"child {{n}}")
        sent = lowlight.flush(5)
        os.write(1, (json.dumps({{"sent": sent, **lowlight.stats()}}) + "\\n").encode())  # one line at once
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
lowlight.record("parent after")
"""


@pytest.mark.parametrize(
    "before",
    ["pass", "lowlight.record('parent before')", "lowlight.record('parent before'); lowlight.flush()"],
)
def test_a_forked_child_sends_its_own_calls_and_not_its_parents(
    server: FakeServer, run_program: RunProgram, before: str
) -> None:
    """As gunicorn with preload does, with the parent's queue empty, full, and its connection open."""
    done = run_program(FORKS.format(before=before), LOWLIGHT_URL=server.url)
    assert done.stderr == ""
    parents = ["parent after"] + (["parent before"] if "record" in before else [])
    assert outputs(server) == sorted(["child 0", "child 1", "child 2", *parents])
    sent = [call["id"] for request in server.requests for call in request.body["calls"]]
    assert len(sent) == len(set(sent))
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["sent"], one["recorded"], one["accepted"]) for one in told] == [(True, 1, 1)] * 3
    connections = {request.connection for request in server.requests}
    assert len(connections) >= 4


def test_a_fork_while_other_threads_record_does_not_hang(server: FakeServer, run_program: RunProgram) -> None:
    source = """
import os, threading, lowlight
stop = threading.Event()
def busy():
    while not stop.is_set():
        lowlight.record("parent")
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads: thread.start()
for n in range(10):
    pid = os.fork()
    if pid == 0:
        lowlight.record("child")
        os._exit(0 if lowlight.flush(10) else 1)
    assert os.waitpid(pid, 0)[1] == 0, n
stop.set()
for thread in threads: thread.join()
lowlight.shutdown(0)
"""
    done = run_program(source, LOWLIGHT_URL=server.url)
    assert done.returncode == 0, done.stderr
    assert outputs(server).count("child") == 10


def test_a_child_of_multiprocessing_sends_at_its_end(server: FakeServer, run_program: RunProgram) -> None:
    """Such a child ends without running atexit."""
    source = """
import multiprocessing, lowlight
lowlight.record("parent")
Process = multiprocessing.get_context("fork").Process
children = [Process(target=lowlight.record, args=(f"child {n}",)) for n in range(2)]
for child in children: child.start()
for child in children: child.join()
"""
    done = run_program(source, LOWLIGHT_URL=server.url)
    assert done.stderr == ""
    assert outputs(server) == ["child 0", "child 1", "parent"]


def test_recording_from_a_signal_handler_does_not_lock_up(
    server: FakeServer, run_program: RunProgram
) -> None:
    source = """
import signal, time, lowlight
signal.signal(signal.SIGALRM, lambda *_: lowlight.record("handler"))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
until = time.monotonic() + 0.5
while time.monotonic() < until: lowlight.record("main", input="x" * 100)
signal.setitimer(signal.ITIMER_REAL, 0)
stats = lowlight.stats()
print(lowlight.flush(20), stats["recorded"] + sum(stats["dropped"].values()) > 100)
print(lowlight.stats()["queued"], lowlight.stats()["queued_bytes"])
"""
    done = run_program(source, LOWLIGHT_URL=server.url)
    assert done.stdout.split() == ["True", "True", "0", "0"], done.stderr
    assert outputs(server).count("handler") > 10


def test_children_forked_without_pythons_hooks_share_nothing(
    server: FakeServer, run_program: RunProgram
) -> None:
    """As uWSGI forks. What a parent has made in advance, ids above all, must not be used by each child."""
    source = """
import ctypes, os, time, lowlight
lowlight.record("parent")
lowlight.flush()
time.sleep(1)  # a thread that waits for the interpreter's lock at such a fork can lock up the child
children = []
for n in range(3):
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        for i in range(20): lowlight.record(f"child {n}")
        with lowlight.call(output=f"child {n}"): pass
        os._exit(0 if lowlight.flush(10) else 1)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children])
"""
    done = run_program(source, LOWLIGHT_URL=server.url)
    assert done.stdout == "[0, 0, 0]\n", done.stderr
    assert outputs(server) == sorted([f"child {n}" for n in range(3)] * 21 + ["parent"])
