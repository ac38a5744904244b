"""Small decisions of the RabbitMQ broker: outcomes of calls, envelopes, bundles, servers, fates, causes."""

import logging
import threading
import time
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker

from mailfleet.broker.base import BrokerUnavailable
from mailfleet.broker.rabbit import RabbitBroker, bundles
from mailfleet.broker.rabbit.bundles import Bundles
from mailfleet.broker.rabbit.call import Call, NotPublished, Published
from mailfleet.broker.rabbit.delivery import Delivery
from mailfleet.broker.rabbit.envelope import Envelope, envelope_of
from mailfleet.broker.rabbit.fates import Fates
from mailfleet.broker.rabbit.quiet import quiet
from mailfleet.broker.rabbit.servers import Servers, reason
from mailfleet_schema.hint import Hint, InvalidHint
from mailfleet_schema.names import InvalidName
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import MAX_DELAY_S, delay_level_name

HINT = Hint("billing", Priority.NORMAL, (1, 2))


def envelope(message_id: str, delay_s: int = 0) -> Envelope:
    return envelope_of(HINT, delay_s=delay_s, message_id=message_id, now_ms=1_999, sender="billing mx1 1")


@given(delay_s=st.integers(1, MAX_DELAY_S))
def test_a_delayed_hint_enters_the_ladder_at_its_highest_bit(delay_s: int) -> None:
    """The levels above would only pass it on; the key still has all bits."""
    made = envelope("m", delay_s)
    level = delay_s.bit_length() - 1
    assert 2**level <= delay_s < 2 ** (level + 1)
    assert made.exchange == delay_level_name(level)
    words = made.routing_key.split(".")
    assert int("".join(words[:17]), 2) == delay_s
    assert words[17:] == ["billing", "normal"]


def test_the_time_on_an_envelope_is_in_seconds() -> None:
    """AMQP counts seconds, dramatiq milliseconds."""
    assert envelope("m").properties.timestamp == 1


def test_a_call_ends_with_its_last_confirmation() -> None:
    """Those that no queue wanted are told."""
    first, second = envelope("1"), envelope("2")
    call = Call([first, second])
    call.confirm(first, returned=True)
    assert call.wait(0) is None
    call.confirm(second, returned=False)
    assert call.wait(0) == Published((first,))


def test_the_first_outcome_of_a_call_counts() -> None:
    """A confirmation that comes after somebody gave up changes nothing."""
    only = envelope("1")
    call = Call([only])
    assert call.end(NotPublished("late")) == NotPublished("late")
    call.confirm(only, returned=False)
    assert call.end(NotPublished("later")) == NotPublished("late")
    assert call.done


def test_a_queue_that_cannot_be_consumed_is_left_out_for_longer_each_time() -> None:
    """Its bundle goes on without it; consumed once, it begins anew."""
    now = 0.0
    made = Bundles(lambda: now)
    high, bulk = "mailfleet.billing.high", "mailfleet.billing.bulk"
    made.add("pool", [high, bulk, high])
    assert made.to_consume("pool") == ((high, bulk), None)
    assert made.leave_out(bulk) == bundles.FIRST_S
    assert made.to_consume("pool") == ((high,), bundles.FIRST_S)
    now = bundles.FIRST_S + 1
    assert made.to_consume("pool") == ((high, bulk), None)
    assert made.leave_out(bulk) == 2 * bundles.FIRST_S
    assert [made.leave_out(bulk) for _ in range(5)][-1] == bundles.MOST_S
    made.consumed([high])
    assert made.leave_out(bulk) == bundles.MOST_S
    made.consumed([bulk])
    assert made.leave_out(bulk) == bundles.FIRST_S


def test_all_queues_are_tried_when_all_would_be_left_out() -> None:
    """A worker that consumes nothing has nothing to protect."""
    made = Bundles(lambda: 0.0)
    queues = ["mailfleet.billing.high", "mailfleet.shop.high"]
    made.add("pool", queues)
    for queue in queues:
        made.leave_out(queue)
    assert made.to_consume("pool") == (tuple(queues), None)
    assert made.apps("pool") == {"billing", "shop"}


@pytest.mark.parametrize(
    "queue",
    [
        "",
        "billing.high",
        "mailfleet.billing",
        "mailfleet.Billing.high",
        "mailfleet.billing.urgent",
        "mailfleet.delay.16",
        "a.b.c.d",
    ],
)
def test_only_work_queues_are_bundled(queue: str) -> None:
    """A typing mistake is told when the worker starts."""
    with pytest.raises(ValueError, match=r"queue|app"):
        Bundles().add("pool", [queue])


def test_servers_are_tried_in_the_order_of_their_answers() -> None:
    """The one that answered comes first next time; after a failure of all the next one."""
    servers = Servers("amqp://a;amqp://b;amqp://c:1", app="billing", host="mx1")

    def order() -> str:
        return "".join(one.host for one in servers.parameters("producer", 1))

    assert order() == "abc"
    servers.answered("c", 1)
    assert order() == "cab"
    servers.failed()
    assert order() == "abc"
    servers.answered("d", 1)
    assert order() == "abc"


def test_a_wrong_url_or_app_is_told_at_once() -> None:
    """Without its password, and before anything is connected."""
    with pytest.raises(ValueError, match="broker_url") as caught:
        RabbitBroker("amqp://x:geheim@host/a/b", app="billing", role="producer")
    assert "geheim" not in str(caught.value)
    with pytest.raises(InvalidName):
        RabbitBroker("amqp://host", app="Billing", role="producer")


def test_a_publish_is_told_why_there_is_no_connection_however_soon_that_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session may have ended before its maker goes on; the hint is not waited for in vain."""

    class Over(threading.Thread):
        def start(self) -> None:
            super().start()
            self.join(10)

    monkeypatch.setattr("mailfleet.broker.rabbit.session.threading.Thread", Over)
    broker = RabbitBroker("amqps://localhost/x?cacertfile=/nowhere", app="billing", role="producer")
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="No such file"):
        broker.publish([HINT])
    assert time.monotonic() - began < 1
    broker.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (AMQPConnectionError(ConnectionRefusedError(111, "Connection refused")), "Connection refused"),
        (ChannelClosedByBroker(404, "NOT_FOUND - no exchange"), "404 NOT_FOUND - no exchange"),
        (AMQPConnectionError(), "AMQPConnectionError"),
        (AMQPConnectionError("no answer in time"), "AMQPConnectionError: no answer in time"),
        (TimeoutError("x" * 500), "TimeoutError: " + "x" * 200),
    ],
)
def test_causes_are_told_in_the_server_s_words(error: BaseException, told: str) -> None:
    """Whatever pika wrapped around them."""
    assert reason(error) == told


class _Consumer:
    gone = False


def delivery(consumer: Any = None) -> Delivery:
    given: Any = consumer or _Consumer()
    message: Any = pika.BasicProperties()  # anything: only the proxy is looked at
    return Delivery(message, bundle="pool", queue="q", tag=1, consumer=given)


def test_fates() -> None:
    """What is no hint is failed and counted, what should be left is left, anything else is neither."""

    class Draining(Exception):  # noqa: N818 - reads as the fact it states
        leave_unacknowledged = True

    parked: list[tuple[str, str, str]] = []
    fates = Fates(lambda *told: parked.append(told))
    broker: Any = None
    for exception, failed, left in (
        (None, False, False),
        (InvalidHint("ids: expected some, got 'secret'"), True, False),
        (Draining(), False, True),
        (RuntimeError("boom"), False, False),
    ):
        one = delivery()
        fates.before_process_message(broker, one)
        fates.after_process_message(broker, one, exception=exception)
        assert (one.failed, one.left) == (failed, left)
    assert parked == [("q", "refused", "ids: expected some")]


def test_what_is_stale_is_skipped_and_not_counted() -> None:
    """Another consumer gets it; whoever refuses it there counts it."""
    gone = _Consumer()
    gone.gone = True
    parked: list[str] = []
    fates = Fates(lambda *told: parked.extend(told))
    broker: Any = None
    with pytest.raises(Exception, match="comes again"):
        fates.before_process_message(broker, delivery(gone))
    fates.after_process_message(broker, delivery(gone), exception=InvalidHint("x"))
    assert parked == []


def test_pika_is_quiet_for_us_only(caplog: pytest.LogCaptureFixture) -> None:
    """What it logs for an application's own connections, in other threads or outside of ours, stays."""
    log = logging.getLogger("pika.adapters.blocking_connection")

    def elsewhere() -> None:
        log.error("elsewhere")

    with caplog.at_level(logging.DEBUG):
        log.error("before")
        with quiet():
            log.error("ours")
            log.debug("for debugging")
            with quiet():
                log.error("ours too")
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        log.error("after")
    assert caplog.messages == ["before", "for debugging", "elsewhere", "after"]
