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

#: How much of the rest of a large message is let through ahead where a journey is long (over
#: mail): the message is wanted whole, and each further limit costs a mail.
LARGE_WINDOW_BYTES: Final = 8 * MIB

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

# --- turns: bytes over HTTP exchanges -----------------------------------------------------------

#: The most bytes one turn says; beyond it the session ends. Below the 1 MiB that common web
#: servers take as a body, large enough to make a request's own cost small.
TURN_BYTES: Final = 512 * KIB

#: What one side keeps of what it said until the other side has it; then its writers wait.
TURNS_KEPT_BYTES: Final = 2 * MIB

#: What has arrived at a session and was not taken yet; then its initiator is made to wait.
TURNS_UNTAKEN_BYTES: Final = 1 * MIB

#: So many bytes received are confirmed at once, without waiting for something to say.
TURNS_ACK_BYTES: Final = 256 * KIB

#: How long a poll is kept waiting for something to say. Most ways allow 30 s and more;
#: where one is cut earlier, the next ones are shorter.
POLL_S: Final = 25.0

#: A silent stream says this often that it is alive.
STREAM_SIGN_S: Final = 15.0

#: How long a way may take to let the first bytes of a stream pass; then it buffers, and
#: polls are used.
STREAM_PROBE_S: Final = 1.0

#: How long a session outlives the time at which its initiator promised to speak again.
SESSION_GRACE_S: Final = 30.0

#: How long a closed session waits for its initiator to fetch the last words.
SESSION_LINGER_S: Final = 10.0

#: The same for an initiator that has ended the session itself: all it may still say is that
#: it has heard of the end.
SESSION_LAST_S: Final = 1.0

#: Sessions of one port; the next one is told to come later.
SESSIONS: Final = 20_000

#: How many ended sessions are remembered, and how long, so that a late repeat of one's
#: first request does not begin it again.
SESSIONS_REMEMBERED: Final = 100_000
SESSION_REMEMBERED_S: Final = 600.0

#: How long an initiator repeats a request that fails before the way counts as lost.
HTTP_GIVE_UP_S: Final = 10.0

#: How long what is known about a way (does it buffer, when does it cut) is believed.
WAY_REMEMBERED_S: Final = 600.0

# --- http ---------------------------------------------------------------------------------------

#: Connections of one HTTP port; the next one is answered 503 and closed. Each waiting one
#: costs 2 to 3 KiB here and a descriptor.
HTTP_CONNECTIONS: Final = 32_768

#: The longest head of a request, as most web servers take it; beyond it: 431, and the
#: connection is closed, as after every answer below.
HTTP_HEAD_BYTES: Final = 16 * KIB

#: The most lines of a head: reading one costs far more than its bytes. Beyond it: 431.
HTTP_HEAD_LINES: Final = 100

#: How long a head may take from its first byte (a connection's first one from the
#: beginning), whether bytes keep coming or not; then 408.
HTTP_HEAD_S: Final = 10.0

#: How long the body of a request may make no progress; then 408. A stream of our own says
#: something every STREAM_SIGN_S.
HTTP_BODY_S: Final = 30.0

#: A body of a known length makes progress only at this many bytes per second. One in chunks
#: may be a stream whose writer has nothing to say, so a single byte counts.
HTTP_BODY_RATE: Final = 1 * KIB

#: The line before a chunk, with its extension; beyond it: 400.
HTTP_CHUNK_LINE_BYTES: Final = 256

#: What a peer may send behind a request that is not answered yet; more is left with the
#: system, which makes the peer wait.
HTTP_EARLY_BYTES: Final = 16 * KIB

#: The rest of a body behind an early answer is read and dropped up to this length, so that
#: the connection can be used again; a longer one ends the connection.
HTTP_DROPPED_BYTES: Final = 64 * KIB

#: How long a connection is kept without a request; then it is closed without a word. Longer
#: than clients keep theirs, so that theirs is the first goodbye.
HTTP_IDLE_S: Final = 75.0

#: How long a peer may take nothing of an answer that is on its way; then it is cut.
HTTP_TAKE_S: Final = 30.0

#: How long a peer that ended its output is still given an answer; then it counts as gone.
#: It cannot be told from one that closed, and a poll that nobody takes must end soon.
HTTP_HALF_CLOSED_S: Final = 1.0

#: How long input is read and dropped behind the last answer: closing over unread input
#: could destroy the answer on its way.
HTTP_LINGER_S: Final = 1.0

#: How long answers may still be given and taken when a port is closed; then they are cut.
HTTP_CLOSE_S: Final = 5.0

#: How exactly the times of HTTP connections are kept.
HTTP_SWEEP_S: Final = 1.0
