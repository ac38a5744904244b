"""The topology as data: every name and argument, and that messages find their way through it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailfleet_schema.declarations import Binding, Queue, Topology, fleet, of_apps
from mailfleet_schema.names import InvalidName
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import (
    DELAY_LEVELS,
    DELAY_OUT_EXCHANGE,
    MAIL_EXCHANGE,
    MAX_DELAY_S,
    PARKED_EXCHANGE,
    delay_exchange,
    delay_level_name,
    delay_routing_key,
    queue_name,
    routing_key,
)

APPS = ("billing", "shop")
LEVELS = [f"mailfleet.delay.{level:02d}" for level in range(17)]


def test_every_exchange() -> None:
    """Names, kinds and arguments of all exchanges; of these only the ladder's end has an alternate one."""
    found = {one.name: (one.kind, dict(one.arguments)) for one in fleet().exchanges}
    assert found == {
        "mailfleet.mail": ("topic", {}),
        "mailfleet.parked": ("fanout", {}),
        "mailfleet.delay.out": ("topic", {"alternate-exchange": "mailfleet.parked"}),
    } | {name: ("topic", {}) for name in LEVELS}


def test_every_shared_queue() -> None:
    """Names and arguments of the parking queue and of the ladder's queues, as they are written here."""
    ladder = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1_000_000,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    expected = {
        name: ladder
        | {
            "x-message-ttl": 1000 * 2**level,
            "x-dead-letter-exchange": LEVELS[level - 1] if level else "mailfleet.delay.out",
        }
        for level, name in enumerate(LEVELS)
    }
    expected["mailfleet.parked"] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1_000_000,
        "x-max-length": 10_000,
        "x-max-length-bytes": 67_108_864,
        "x-overflow": "drop-head",
    }
    assert {one.name: dict(one.arguments) for one in fleet().queues} == expected


def test_every_work_queue() -> None:
    """An app has three queues, each bound to the exchange for hints and to the ladder's end."""
    found = of_apps(["billing"])
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1_000_000,
        "x-dead-letter-exchange": "mailfleet.parked",
    }
    names = [f"mailfleet.billing.{priority}" for priority in ("high", "normal", "bulk")]
    assert found.exchanges == ()
    assert {one.name: dict(one.arguments) for one in found.queues} == dict.fromkeys(names, arguments)
    stars = "*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*"
    assert set(found.bindings) == {
        Binding(MAIL_EXCHANGE, f"mailfleet.billing.{priority}", f"billing.{priority}", target_is_queue=True)
        for priority in ("high", "normal", "bulk")
    } | {
        Binding(
            DELAY_OUT_EXCHANGE,
            f"mailfleet.billing.{priority}",
            f"{stars}.billing.{priority}",
            target_is_queue=True,
        )
        for priority in ("high", "normal", "bulk")
    }


def test_a_levels_bindings() -> None:
    """A level keeps what has its bit, and hands everything else to the level below."""
    keys = {(one.source, one.target): one.key for one in fleet().bindings}
    stars = ["*"] * 19
    assert keys["mailfleet.delay.16", "mailfleet.delay.16"] == ".".join(["1", *stars[1:]])
    assert keys["mailfleet.delay.16", "mailfleet.delay.15"] == ".".join(["0", *stars[1:]])
    assert keys["mailfleet.delay.00", "mailfleet.delay.out"] == ".".join([*stars[:16], "0", "*", "*"])
    assert len(fleet().bindings) == 2 * DELAY_LEVELS + 1


def test_what_is_named_is_declared() -> None:
    """Every exchange and queue that an argument or a binding names is part of the topology."""
    topology = fleet() + of_apps(APPS)
    exchanges = {one.name for one in topology.exchanges}
    queues = {one.name for one in topology.queues}
    for queue in topology.queues:
        assert {queue.arguments[key] for key in queue.arguments if key.endswith("-exchange")} <= exchanges
    for binding in topology.bindings:
        assert binding.source in exchanges
        assert binding.target in (queues if binding.target_is_queue else exchanges)


def test_a_sum_repeats_nothing() -> None:
    """Adding what is there already changes nothing; order is kept."""
    both = of_apps(["billing"]) + of_apps(["shop"])
    assert both == of_apps(APPS)
    assert both + of_apps(["billing"]) == both
    assert Topology() + both == both


def test_no_queue_for_what_is_no_app() -> None:
    """A name that would change a binding's pattern is refused."""
    with pytest.raises(InvalidName):
        of_apps(["billing", "#"])


def matches(pattern: str, key: str) -> bool:
    """A topic exchange's rule for patterns without `#`: word by word, `*` is any one word."""
    wanted, words = pattern.split("."), key.split(".")
    return len(wanted) == len(words) and all(w in {"*", word} for w, word in zip(wanted, words, strict=True))


def walk(topology: Topology, exchange: str, key: str) -> tuple[int, list[str]]:
    """Follow a message with *key* from *exchange*: seconds spent in queues with a TTL, and the queues it ends in."""
    queues: dict[str, Queue] = {one.name: one for one in topology.queues}
    alternates: dict[str, str | None] = {
        one.name: one.arguments.get("alternate-exchange") for one in topology.exchanges
    }
    fanouts = {one.name for one in topology.exchanges if one.kind == "fanout"}
    waited_s = 0
    for _ in range(100):
        taken = [
            one
            for one in topology.bindings
            if one.source == exchange and (exchange in fanouts or matches(one.key, key))
        ]
        if not taken:
            alternate = alternates[exchange]
            if alternate is None:
                return waited_s, []
            exchange = alternate
            continue
        # Two ways would be two messages.
        assert len(taken) == 1, (exchange, key, taken)
        [way] = taken
        if not way.target_is_queue:
            exchange = way.target
        elif "x-message-ttl" in queues[way.target].arguments:
            waited_s += queues[way.target].arguments["x-message-ttl"] // 1000
            exchange = queues[way.target].arguments["x-dead-letter-exchange"]
        else:
            return waited_s, [way.target]
    raise AssertionError(f"{key} goes in circles")


@given(st.integers(1, MAX_DELAY_S), st.sampled_from(APPS), st.sampled_from(Priority))
@example(1, "billing", Priority.HIGH)
@example(65_536, "billing", Priority.HIGH)
@example(MAX_DELAY_S, "shop", Priority.BULK)
def test_the_ladder_takes_exactly_the_delay(delay_s: int, app: str, priority: Priority) -> None:
    """A message leaves after just its delay, into the queue of its app and priority; from the top too."""
    key = delay_routing_key(delay_s, app, priority)
    topology = fleet() + of_apps(APPS)
    assert walk(topology, delay_exchange(delay_s), key) == (delay_s, [queue_name(app, priority)])
    assert walk(topology, delay_level_name(16), key) == (delay_s, [queue_name(app, priority)])


@given(st.integers(1, MAX_DELAY_S))
def test_the_ladder_parks_what_has_no_queue(delay_s: int) -> None:
    """A message for an app that nobody declared comes out after its delay and is parked."""
    key = delay_routing_key(delay_s, "gone", Priority.NORMAL)
    assert walk(fleet() + of_apps(APPS), delay_exchange(delay_s), key) == (delay_s, ["mailfleet.parked"])


@pytest.mark.parametrize(
    "key", ["billing.high", "1.billing.high", "2" + ".0" * 16 + ".billing.high", "0." * 18 + "billing.high"]
)
def test_the_ladder_refuses_what_has_no_seventeen_bits(key: str) -> None:
    """A key of another form is unroutable at the top, so its publisher gets it back."""
    assert walk(fleet() + of_apps(APPS), delay_level_name(16), key) == (0, [])


@pytest.mark.parametrize(
    ("delay_s", "level"), [(1, 0), (2, 1), (3, 1), (5, 2), (3600, 11), (65_535, 15), (MAX_DELAY_S, 16)]
)
def test_a_delay_enters_where_it_waits_first(delay_s: int, level: int) -> None:
    """At the level of its highest bit; the levels above would only hand it on."""
    assert delay_exchange(delay_s) == delay_level_name(level)


@pytest.mark.parametrize("delay_s", [0, -1, MAX_DELAY_S + 1])
def test_no_level_for_what_is_no_delay(delay_s: int) -> None:
    """Below a second and above 36 hours there is none."""
    with pytest.raises(ValueError, match="delay_s: expected 1 to 131071"):
        delay_exchange(delay_s)


@pytest.mark.parametrize("app", [*APPS, "gone"])
def test_hints_are_routed_or_returned(app: str) -> None:
    """A hint goes into the one queue of its app and priority; one for no queue is returned, never parked."""
    key = routing_key(app, Priority.NORMAL)
    expected = [queue_name(app, Priority.NORMAL)] if app in APPS else []
    assert walk(fleet() + of_apps(APPS), MAIL_EXCHANGE, key) == (0, expected)


def test_the_parking_exchange_takes_everything() -> None:
    """Whatever the routing key is."""
    assert walk(fleet(), PARKED_EXCHANGE, "whatever.it.is") == (0, ["mailfleet.parked"])
