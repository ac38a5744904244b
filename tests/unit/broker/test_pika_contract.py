"""The private parts of pika that we use because it has no public way to give up on a server that does not answer."""

import inspect

import pika
from pika.adapters.base_connection import BaseConnection
from pika.adapters.blocking_connection import BlockingConnection
from pika.adapters.select_connection import IOLoop


def names(method: object) -> list[str]:
    """A method's parameters."""
    return list(inspect.signature(method).parameters)  # type: ignore[arg-type]


def test_a_connection_can_be_cut() -> None:
    """`_terminate_stream` takes the error that waiting calls then raise."""
    assert names(pika.SelectConnection._terminate_stream) == ["self", "error"]
    assert "_adapter_disconnect_stream" in inspect.getsource(pika.SelectConnection._terminate_stream)


def test_a_timer_runs_while_a_blocking_call_waits() -> None:
    """It is one of the inner connection's loop, which every blocking call runs; and it can be taken back."""
    assert names(BaseConnection._adapter_call_later) == ["self", "delay", "callback"]
    assert names(BaseConnection._adapter_remove_timeout) == ["self", "timeout_id"]
    source = inspect.getsource(BlockingConnection._flush_output)
    assert "self._impl.ioloop.process_timeouts()" in source
    assert "raise self._closed_result.value.error" in source


def test_a_blocking_connection_has_an_inner_one() -> None:
    """Of the class that we cut."""
    source = inspect.getsource(BlockingConnection)
    assert "self._impl = self._create_connection(" in source
    assert "select_connection.SelectConnection" in source


def test_a_closed_loop_takes_callbacks_of_other_threads() -> None:
    """A session may end while somebody submits: the callback is lost, nothing is raised."""
    loop = IOLoop()
    loop.close()
    loop.add_callback_threadsafe(lambda: None)
