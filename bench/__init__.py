"""The benchmark: `python -m bench` prints one table, peers beside us in the same run.

Rooms: `peers/` wraps each library behind the same few verbs, `measures/` says what is
done with them, `worker` is one side of one measurement in a process of its own, `cell`
runs such a pair, `run` interleaves them, `table` and `targets` show what came out.
"""

__all__: list[str] = []
