"""How a worker process ends, as its exit status says it."""

#: It was told to end, and every row it held is settled or given back.
DRAINED = 0
#: It did not start (a database that is away), or did not drain in time: what it held is recovered.
FAILED = 1
#: Not with these settings or modules: another start would end in the same way.
CANNOT_WORK = 2
#: Others have taken its rows while it was away.
LOST = 3
#: The database is a copy, or was moved, and nobody has confirmed it: nothing was done in it.
ELSEWHERE = 4
