"""Processes for templates: real ones, which end where a template wants too much."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from mailfleet_workers.template import processes as module
from mailfleet_workers.template.processes import AtFault, Busy, Failed, Filled, TemplateProcesses
from tests.waiting import wait_until

pytestmark = pytest.mark.tinymail("55")


@pytest.fixture
def processes() -> Iterator[TemplateProcesses]:
    """With little time and memory."""
    made = TemplateProcesses(memory_bytes=64 * 2**20, cpu_s=1)
    yield made
    made.close()


def filled(processes: TemplateProcesses, source: str = "x", **more: object) -> object:
    return processes.fill({"text": source}, {}, most=1000, **more)  # type: ignore[arg-type]


def pids(processes: TemplateProcesses) -> list[int]:
    return [kept.process.pid for kept in processes._idle]


def test_one_process_serves_many(processes: TemplateProcesses) -> None:
    """It is started when it is needed, and kept."""
    assert pids(processes) == []
    assert filled(processes) == Filled({"subject": None, "text": "x", "html": None})
    (first,) = pids(processes)
    assert filled(processes, "{{ nobody }}") == AtFault("text, line 1: 'nobody' is undefined")
    assert processes.compile({"text": "{% if %}"}) == AtFault(
        "text, line 1: Expected an expression, got 'end of statement block'"
    )
    assert pids(processes) == [first]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "more than 1 s of processor time",
        ),
        ("{% set x = 9 %}{{ x ** (x ** 9) }}", "more than 1 s of processor time"),
        ("{% set n = 10 ** 9 %}{{ ('x' * n)|length }}", "more memory than it may have"),
        (
            "{% set n = namespace(all=[]) %}{% for a in range(99999) %}{% set n.all = n.all + [['x'] * 99999] %}{% endfor %}",
            "more memory than it may have",
        ),
    ],
    ids=["loop", "number", "one string", "many lists"],
)
def test_one_that_wants_too_much_ends_alone(processes: TemplateProcesses, source: str, reason: str) -> None:
    """The kernel ends its process, or refuses it memory; the next template has a process again."""
    assert filled(processes, source) == AtFault(reason)
    assert isinstance(filled(processes), Filled)


def test_compiling_is_bounded_too(processes: TemplateProcesses) -> None:
    """Jinja2 computes constants when it compiles."""
    assert processes.compile({"text": "{{ 9 ** (9 ** 9) }}"}) == AtFault("more than 1 s of processor time")


def test_a_process_that_is_killed_is_no_fault_of_a_template(processes: TemplateProcesses) -> None:
    """Another time it works."""
    filled(processes)
    (pid,) = pids(processes)
    os.kill(pid, signal.SIGKILL)
    answer = filled(processes)
    assert isinstance(answer, Failed)
    assert isinstance(filled(processes), Filled)


def test_a_process_that_cannot_start_is_no_fault_of_a_template(
    processes: TemplateProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No interpreter, no memory for one: another time it works."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/nowhere/python")
        assert filled(processes) == Failed("its process cannot be started: FileNotFoundError")
        patch.setattr("sys.executable", "/bin/false")
        answer = filled(processes)
        assert isinstance(answer, Failed)
        assert answer.reason.startswith("its process ended at its start")
    assert isinstance(filled(processes), Filled)


def test_signals_for_the_worker_are_not_for_it(processes: TemplateProcesses) -> None:
    """A stop that is told to every process of a service leaves it to its worker's drain."""
    filled(processes)
    (pid,) = pids(processes)
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    assert isinstance(filled(processes), Filled)
    assert pids(processes) == [pid]
    assert os.getsid(pid) != os.getsid(0)


def test_it_knows_nothing_of_our_environment(
    processes: TemplateProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets are in it."""
    monkeypatch.setenv("BILLING_SMTP_PASSWORD", "s3cret")
    filled(processes)
    (pid,) = pids(processes)
    with open(f"/proc/{pid}/environ", encoding="utf-8") as file:  # noqa: PTH123 - the kernel's
        assert "s3cret" not in file.read()


def test_high_waits_for_nobody(processes: TemplateProcesses) -> None:
    """Others may be at work in every place; one place is for mail of priority high."""
    taken = [processes._all.acquire() for _ in range(module.SIDE_BY_SIDE)]
    assert filled(processes, timeout_s=0.05) == Busy()
    assert isinstance(filled(processes, urgent=True), Filled)
    for _ in taken:
        processes._all.release()


def test_a_stop_ends_the_waiting(processes: TemplateProcesses) -> None:
    """A drain waits for no template; its process is gone."""
    stop = threading.Event()
    stop.set()
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    slow = TemplateProcesses(cpu_s=60)
    assert slow.fill({"text": loop}, {}, most=9, timeout_s=60, stop=stop) == Busy()
    assert pids(slow) == []


def test_closing_ends_them(processes: TemplateProcesses) -> None:
    """Nothing is left behind."""
    filled(processes)
    (pid,) = pids(processes)
    processes.close()

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone, 10, lambda: f"process {pid} is there")
