"""Every bound of the product: its value, the reason for it, and what happens there.

Bounds that a user may move are the defaults of settings in `compoint/config.py`; the
others are part of the protocol or of the promise that memory stays bounded (P12).
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# --- messages -------------------------------------------------------------------------------

#: The largest message a side takes unless configured. Memory is committed only as bytes
#: arrive, so the bound protects against mistakes more than against attacks. Beyond it the
#: writer gets TooLargeError before a byte is sent.
MESSAGE_BYTES: Final = 1 * GIB

#: How deep plain data may nest. Deep enough for any document, far from the interpreter's
#: recursion limit. Beyond it: MessageError.
NESTING_DEPTH: Final = 100

#: What a message costs in credit beside its own bytes: the memory of one queued object.
#: Without it, a flood of empty messages would be free and its queue unbounded.
MESSAGE_TOLL_BYTES: Final = 64

# --- frames ---------------------------------------------------------------------------------

#: The longest payload of one data frame (docs/PROTOCOL.md §3). Short enough that a small
#: message of another channel waits well below a millisecond behind it.
CHUNK_BYTES: Final = 256 * KIB

#: A message up to this size travels in one frame and may be gathered with others.
SMALL_BYTES: Final = 16 * KIB

#: Gathered small messages leave at the latest when this much is waiting.
GATHER_BYTES: Final = 64 * KIB

#: The longest payload of a control frame: a correlator and a few numbers fit many times.
CONTROL_BYTES: Final = 4 * KIB

#: A frame that is too long is skipped, so that only its own stream suffers, up to this
#: length; beyond it nothing the peer says can be believed and the connection ends.
SKIP_BYTES: Final = 64 * MIB

#: One receive takes up to this much: serves floods well and lone messages no worse.
RECEIVE_BYTES: Final = 64 * KIB

# --- credit ---------------------------------------------------------------------------------

#: What an initiator may send before it has heard anything; also the most one queued,
#: unclaimed channel can hold.
FIRST_CREDIT_BYTES: Final = 64 * KIB

#: How much a side lets the peer send ahead of its program's reads.
WINDOW_BYTES: Final = 1 * MIB

#: The window while this side's own program is stuck in `write()`: both ends may write this
#: much before they read. Beyond it both wait until one reads or a deadline passes.
WIDE_WINDOW_BYTES: Final = 64 * MIB

# --- patience with a peer that only talks -----------------------------------------------------

#: What a responder holds behind a greeting it has not answered; then it refuses.
EARLY_BYTES: Final = WINDOW_BYTES

#: Answers a peer may have waiting here without reading them; then it is left. Far more
#: than a peer in good order can cause, and a bound for one that only ever asks.
CONTROL_FLOOD_BYTES: Final = 16 * MIB

# --- greeting -------------------------------------------------------------------------------

#: The longest greeting. Read before any trust, so it is small; beyond it: FrameError.
GREETING_BYTES: Final = 4 * KIB

#: How long a connection may take to say who it is. Off the accept path, so a silent peer
#: delays nobody; then it is closed.
GREETING_S: Final = 10.0

#: Connections of one listener that have not yet greeted; the next one is closed at once.
UNGREETED: Final = 256

#: Connections greeted and not yet accepted by the program; the next is refused (`busy`).
BACKLOG: Final = 1024

# --- channels -------------------------------------------------------------------------------

#: The longest correlator in UTF-8 bytes; beyond it the channel is refused.
CORRELATOR_BYTES: Final = 1 * KIB

#: Channels one service point queues before their responders come; the next is refused.
QUEUED_CHANNELS: Final = 32_768

#: The share of the queue that one connection may fill, so that one peer cannot starve all.
QUEUED_CHANNELS_PER_CONNECTION: Final = 16_384

#: Bytes of messages all queued channels together may hold; what comes then is refused.
QUEUED_BYTES: Final = 64 * MIB

#: How long a channel waits in the queue; then it is refused (`expired`).
QUEUED_S: Final = 600.0

#: Channels of one connection alive at once; the next is refused.
CHANNELS_PER_CONNECTION: Final = 65_536

#: A shared connection without channels is kept this long for the next one.
IDLE_CONNECTION_S: Final = 30.0

# --- time -----------------------------------------------------------------------------------

#: How long reaching a peer may take unless the caller says otherwise.
CONNECT_S: Final = 10.0

#: How long `close()` waits for the peer's confirmation unless the caller says otherwise.
CLOSE_S: Final = 10.0

#: How long all points together may take to say goodbye when the program ends.
EXIT_S: Final = 10.0

#: A silent connection is asked for a sign of life this often (P9) ...
HEARTBEAT_S: Final = 10.0

#: ... and given up after this many unanswered intervals.
HEARTBEATS_MISSED: Final = 3
