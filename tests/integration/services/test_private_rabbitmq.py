"""The private RabbitMQ of the tests, the virtual host that each test gets, and the management client."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pika
import pika.exceptions
import pytest
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout

from tests.services.base import RabbitServer, StartError
from tests.services.external import ExternalRabbit
from tests.services.locate import find_rabbitmq
from tests.services.management import ManagementError
from tests.services.processes import processes_in
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

QUORUM = {"x-queue-type": "quorum"}
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def private(**options: int | dict[str, str]) -> PrivateRabbit:
    """A broker of this test alone, not started yet."""
    binaries = find_rabbitmq()
    assert binaries is not None, "a crash test needs RabbitMQ's programs on this machine"
    return PrivateRabbit(binaries, **options)  # type: ignore[arg-type]  # the two keyword arguments


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateRabbit]:
    """A broker of this file alone, on which deliveries may be held for two seconds; it leaves nothing."""
    with private(consumer_timeout_ms=2_000) as server:
        directory = server.directory
        yield server
    server.stop()
    assert processes_in(directory) == []
    assert not directory.exists()


@pytest.fixture
def host(broker: PrivateRabbit) -> Iterator[VirtualHost]:
    """A virtual host on it."""
    with broker.vhost() as made:
        yield made


def connect(host: VirtualHost) -> pika.BlockingConnection:
    """A plain client that gives up soon."""
    parameters = pika.URLParameters(host.url)
    parameters.socket_timeout = parameters.stack_timeout = 5
    parameters.blocked_connection_timeout = 0.5
    return pika.BlockingConnection(parameters)


def publish(host: VirtualHost, queue: str, *bodies: bytes) -> None:
    """Declare a quorum queue and have the broker confirm what is published to it."""
    with connect(host) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, arguments=QUORUM)
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", queue, body, PERSISTENT, mandatory=True)


def test_a_virtual_host_that_was_deleted_can_be_made_again(rabbitmq: VirtualHost) -> None:
    """The session's broker gives a plain client a place of its own; deleted and made again, it is empty and usable."""
    publish(rabbitmq, "waiting", b"one", b"two")
    assert rabbitmq.ready("waiting") == 2
    rabbitmq.delete_vhost()
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(rabbitmq)
    rabbitmq.create_vhost()
    assert rabbitmq.management.queues() == []
    publish(rabbitmq, "waiting", b"three")
    assert rabbitmq.ready("waiting") == 1


def test_virtual_hosts_do_not_meet(rabbitmq_server: RabbitServer, rabbitmq: VirtualHost) -> None:
    """A user may not enter another test's virtual host, and both are gone afterwards."""
    with rabbitmq_server.vhost() as other:
        stranger = pika.URLParameters(other.url_of(rabbitmq.user, rabbitmq.password))
        with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
            pika.BlockingConnection(stranger)
    left = [each["name"] for each in rabbitmq_server.management.call("GET", "vhosts")]
    assert other.vhost not in left
    assert rabbitmq.vhost in left
    assert other.user not in [each["name"] for each in rabbitmq_server.management.call("GET", "users")]


def test_the_management_client_sees_what_a_client_made(rabbitmq: VirtualHost) -> None:
    """Queues, exchanges, bindings and messages of this virtual host, and of no other."""
    publish(rabbitmq, "q", b"hello")
    management = rabbitmq.management
    with connect(rabbitmq) as connection:
        channel = connection.channel()
        channel.exchange_declare("e", "topic")
        channel.queue_bind("q", "e", "key.*")
    assert [queue["name"] for queue in management.queues()] == ["q"]
    assert management.queue("q")["arguments"] == QUORUM
    assert [exchange["name"] for exchange in management.exchanges()] == ["e"]
    made = [(each["source"], each["destination"], each["routing_key"]) for each in management.bindings()]
    assert made == [("e", "q", "key.*")]
    assert management.publish("e", "key.1", "from the API", type="greeting")
    assert not management.publish("e", "nowhere", "lost")
    seen = management.get("q", 5, requeue=True)
    assert [message["payload"] for message in seen] == ["hello", "from the API"]
    assert seen[1]["properties"]["type"] == "greeting"
    management.purge("q")
    assert rabbitmq.ready("q") == 0
    management.delete_queue("q")
    management.delete_queue("q")
    with pytest.raises(ManagementError) as refused:
        management.queue("q")
    assert refused.value.status == 404


def test_the_management_client_sees_and_ends_who_is_connected(rabbitmq: VirtualHost) -> None:
    """Connections, channels and consumers of this virtual host; a closed connection is told why."""
    management = rabbitmq.management
    connection = connect(rabbitmq)
    channel = connection.channel()
    channel.queue_declare("q", durable=True, arguments=QUORUM)
    channel.basic_consume("q", lambda *_: None, consumer_tag="a tag")
    wait_until(lambda: len(management.connections()) == 1, 20, lambda: str(management.connections()))
    wait_until(lambda: len(management.channels()) == 1, 20, lambda: str(management.channels()))
    wait_until(lambda: len(management.consumers()) == 1, 20, lambda: str(management.consumers()))
    assert management.consumers()[0]["consumer_tag"] == "a tag"
    assert management.close_connections("a reason") == 1
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="a reason"):
        connection.process_data_events(10)


def test_a_delivery_that_is_held_too_long_is_taken_back(host: VirtualHost) -> None:
    """The consumer timeout that was asked for is in force, and looked after every second."""
    publish(host, "q", b"hello")
    with connect(host) as connection:
        channel = connection.channel()
        said: list[Exception] = []
        channel._impl.add_on_close_callback(lambda _, reason: said.append(reason))
        channel.basic_consume("q", lambda *_: None)
        end = time.monotonic() + 30
        while channel.is_open and time.monotonic() < end:
            connection.process_data_events(1)
    assert ["PRECONDITION_FAILED" in str(reason) for reason in said] == [True]
    wait_until(lambda: host.ready("q") == 1, 10, lambda: "the message is still away")


def test_a_memory_alarm_blocks_publishers_until_it_is_cleared(
    broker: PrivateRabbit, host: VirtualHost
) -> None:
    """With the alarm on no confirm comes back; afterwards publishing works again."""
    publish(host, "q", b"before")
    broker.set_memory_alarm(on=True)
    try:
        with pytest.raises(pika.exceptions.ConnectionBlockedTimeout):
            publish(host, "q", b"meanwhile")
    finally:
        broker.set_memory_alarm(on=False)
    publish(host, "q", b"after")


def test_a_paused_broker_answers_nothing_and_comes_back(broker: PrivateRabbit, host: VirtualHost) -> None:
    """A client's own timeout ends its wait; the connection that was open lives on."""
    with connect(host) as connection:
        channel = connection.channel()
        with broker.paused():
            hasty = pika.URLParameters(host.url)
            hasty.socket_timeout = hasty.stack_timeout = 0.3
            begun = time.monotonic()
            with pytest.raises(AMQPConnectorStackTimeout):
                pika.BlockingConnection(hasty)
            assert time.monotonic() - begun < 5
        channel.queue_declare("alive", exclusive=True)


def test_the_broker_is_ours_alone(broker: PrivateRabbit) -> None:
    """It listens on loopback only, no process runs as root if it can be helped, and the machine's epmd is not used."""
    pids = processes_in(broker.directory)
    owners: dict[str, int] = {}
    for pid in pids:
        # The node starts and ends helpers all the time.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            owners[Path(f"/proc/{pid}/comm").read_text().strip()] = Path(f"/proc/{pid}").stat().st_uid
    assert {"beam.smp", "epmd"} <= set(owners)
    assert {owner == os.getuid() for owner in owners.values()} == {os.getuid() != 0}
    addresses = listeners(pids)
    assert len(addresses) >= 4
    assert {address for address, _ in addresses} <= {"0100007F", "00000000000000000000000001000000"}
    assert 4369 not in {port for _, port in addresses}


def test_a_crash_loses_nothing_that_was_confirmed(broker: PrivateRabbit, host: VirtualHost) -> None:
    """Killed and started again on the same ports, the broker has the message of a queue that was declared just before."""
    before = broker.port
    publish(host, "q", b"kept")
    broker.kill()
    assert processes_in(broker.directory) == []
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(host)
    broker.restart()
    assert broker.port == before
    assert [message["payload"] for message in host.management.get("q")] == ["kept"]


def test_a_broker_that_cannot_start_says_why() -> None:
    """A wrong setting is in the message, and nothing is left behind."""
    server = private(settings={"heartbeat": "many"})
    with pytest.raises(StartError, match="heartbeat"):
        server.start()
    assert not server.directory.exists()


def test_a_running_broker_can_be_used_instead(broker: PrivateRabbit) -> None:
    """A broker named by its addresses gives virtual hosts and is not stopped."""
    external = ExternalRabbit(broker.amqp_url(), broker.management_url)
    assert external.version == broker.version
    with external.vhost() as host:
        publish(host, "q", b"hello")
        assert host.ready("q") == 1
    external.stop()
    assert broker.management.overview()["rabbitmq_version"] == broker.version


def listeners(pids: list[int]) -> set[tuple[str, int]]:
    """Address (hexadecimal, as the kernel has it) and port of every TCP socket that these processes listen on."""
    sockets = set()
    for pid in pids:
        # Descriptors are closed and helpers end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    sockets.add(str(link.readlink()))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                found.add((address, int(port, 16)))
    return found
