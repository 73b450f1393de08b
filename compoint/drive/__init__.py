"""The only rooms that wait: the thread that waits moves the bytes, one pump does the rest."""
