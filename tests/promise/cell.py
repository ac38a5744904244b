"""The cells of the kill table and of the pause table: what is struck, at which instant, and what may come of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailfleet_schema.states import OnDoubt

#: Sending threads that are held at the instant and struck together.
THREADS = 20
#: Threads that read hints: one for each priority.
INTAKE_THREADS = 3


class Harm(StrEnum):
    """What happens to a worker process.

    `killed`: SIGKILL, its parent lives and has its journal. `host_lost`: parent and child are killed and the journal is
    deleted. `paused`: SIGSTOP for longer than `quiet_s`; another host takes over, then SIGCONT.
    """

    KILLED = "killed"
    HOST_LOST = "host_lost"
    PAUSED = "paused"


#: The instants of a mail's way, in order: eight that matter, and the end of the settling transaction as a ninth.
POINTS = (
    "before_claim",
    "after_claim",
    "before_ack",
    "after_mail",
    "after_body",
    "after_record",
    "after_dot",
    "after_reply",
    "after_settle",
)
PAUSES = ("after_claim", "after_body", "after_record", "after_reply")
#: Passed by the threads that read hints, not by those that send.
INTAKE = frozenset({"before_claim", "after_claim", "before_ack"})
#: Passed once for a chunk, not once for a mail.
_ONCE_A_CHUNK = frozenset({"after_record", "after_settle"})


@dataclass(frozen=True, slots=True)
class Way:
    """How mail is sent in a cell: its policy, and the rows that each thread records at once."""

    on_doubt: OnDoubt
    chunk: int


WAYS = (
    Way(OnDoubt.RESEND_ONCE, 1),
    Way(OnDoubt.RESEND_ONCE, 8),
    Way(OnDoubt.RESEND, 1),
    Way(OnDoubt.RESEND, 8),
    Way(OnDoubt.HOLD, 1),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the tables."""

    harm: Harm
    point: str
    way: Way

    @property
    def app(self) -> str:
        """Each instant has an app of its own, and so a worker process of its own."""
        return self.point.replace("_", "-")

    @property
    def name(self) -> str:
        """Unique; with it begin the subjects of its mails, and it is the local part of their sender."""
        return f"{self.harm}.{self.point}.{self.way.on_doubt}.{self.way.chunk}"

    @property
    def sender(self) -> str:
        """From whom its mails are."""
        return f"{self.name}@example.com"

    @property
    def threads(self) -> int:
        """How many threads can be at that instant at once."""
        return INTAKE_THREADS if self.point in INTAKE else THREADS

    @property
    def nth(self) -> int:
        """The pass at which each thread is held: at the last mail of a chunk, where most is at stake.

        Mails that go one by one are held at the second, on a connection that has carried one already.
        """
        if self.point in INTAKE:
            return 1
        if self.way.chunk == 1:
            return 2
        return 1 if self.point in _ONCE_A_CHUNK else self.way.chunk

    @property
    def mails_per_account(self) -> int:
        """A thread takes the waiting mails of one account; there are as many accounts as threads."""
        return max(4, self.way.chunk)

    def most_doubled(self, threads: int) -> int:
        """How many mails may come twice when *threads* were struck. Where it is not 0, the strike makes some."""
        chunk = self.way.chunk
        if self.way.on_doubt is OnDoubt.HOLD:
            return 0
        match self.harm, self.point:
            case Harm.KILLED, "after_dot":
                # What left with its dot is all that nobody knows of.
                return threads
            case Harm.HOST_LOST | Harm.PAUSED, "after_mail" | "after_body":
                # The chunk's mails before this one: answered, and known in that process alone.
                return threads * (chunk - 1)
            case (Harm.HOST_LOST, "after_dot" | "after_reply") | (Harm.PAUSED, "after_reply"):
                return threads * chunk
            case _:
                return 0

    def most_held(self, threads: int) -> int:
        """How many mails under `hold` nobody can know the end of. Where it is not 0, the strike makes some."""
        if self.way.on_doubt is not OnDoubt.HOLD:
            return 0
        match self.harm, self.point:
            case (
                (Harm.KILLED, "after_dot")
                | (Harm.HOST_LOST, "after_record" | "after_dot" | "after_reply")
                | (Harm.PAUSED, "after_record")
            ):
                return threads
            case _:
                return 0


def cells(harm: Harm, way: Way, points: Sequence[str] | None = None) -> list[Cell]:
    """One round: every instant at which *harm* strikes mail sent in *way*."""
    chosen = points or (PAUSES if harm is Harm.PAUSED else POINTS)
    return [Cell(harm, point, way) for point in chosen]
