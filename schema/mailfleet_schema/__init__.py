"""What crosses a process boundary: tables, states, guarded statements, hints, topology, migrations."""
