"""The tcp transport: frames over a stream socket."""

from compoint.tcp._socket import SocketWire, TcpOpener

__all__ = ["SocketWire", "TcpOpener"]
