"""The public test kit: for programs on top of compoint, and for transports of others.

- `compoint.testing.contract`: the suite of promises that every ComPoint keeps (needs pytest);
- `Background`, `eventually`, `asleep`: calls that block, and waiting without sleeping;
- `Leaks`: what a test has left behind in this process;
- `configured`: settings for one block;
- `ScriptedServer`, `ScriptedPeer`: a peer that sends exactly the bytes you say;
- `Weather`: a bad network between two points that sees every byte.
"""

from __future__ import annotations

from compoint.testing._background import Background
from compoint.testing._leaks import Leaks
from compoint.testing._patience import asleep, eventually
from compoint.testing._scripted import ScriptedPeer, ScriptedServer
from compoint.testing._settings import configured
from compoint.testing._weather import Weather

__all__ = [
    "Background",
    "Leaks",
    "ScriptedPeer",
    "ScriptedServer",
    "Weather",
    "asleep",
    "configured",
    "eventually",
]
