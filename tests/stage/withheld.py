"""How much of the machine was withheld: a virtual machine's processors are lent to others now and then.

What a fleet makes of a limit within a second shows it at once; what it never does, such as sending too much, does not
depend on it.
"""

from pathlib import Path

STAT = Path("/proc/stat")
#: Of the figures in its line `cpu`, as proc(5) has them: idle and iowait are nobody's, steal is others'.
_IDLE, _IOWAIT, _STEAL = 3, 4, 7


class Withheld:
    """From its making on. On a system that does not say, nothing is ever withheld."""

    def __init__(self, stat: Path = STAT) -> None:
        self._stat = stat
        self._began = self._read()

    def share(self) -> float:
        """Of the processor time that was wanted since then, the share that others had: 0.0 to 1.0."""
        wanted, others = (now - then for now, then in zip(self._read(), self._began, strict=True))
        return others / wanted if wanted > 0 else 0.0

    def _read(self) -> tuple[int, int]:
        try:
            line = self._stat.read_text().partition("\n")[0]
        except OSError:
            line = ""
        # What guests had is counted in the first two already.
        ticks = [int(word) for word in line.split()[1:9]]
        if len(ticks) <= _STEAL:
            return 0, 0
        return sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT], ticks[_STEAL]
