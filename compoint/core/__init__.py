"""Pure protocol machines: bytes, commands and the time go in, events and bytes come out.

Nothing here knows a clock, a thread, a socket or chance, so every test of it is exact.
"""
