"""The transports `http` and `https`: whole conversations where only HTTP passes.

`HttpOpener` and `HttpsOpener` stand behind the protocol names. `use_session` chooses how
requests are made; `wsgi_application` and `asgi_application` put servers into a web server
of your own. See docs/howto/http.md.
"""

from __future__ import annotations

from compoint.http._mounts import asgi_application, wsgi_application
from compoint.http._opener import HttpOpener, HttpsOpener
from compoint.http._sessions import use_session

__all__ = ["HttpOpener", "HttpsOpener", "asgi_application", "use_session", "wsgi_application"]
