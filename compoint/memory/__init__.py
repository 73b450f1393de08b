"""The memory transport: two ends in one process, the same promises, no system in between."""

from compoint.memory._pipe import MemoryOpener, MemoryWire, memory_pair

__all__ = ["MemoryOpener", "MemoryWire", "memory_pair"]
