"""HTTP on this machine alone: never through a proxy."""

from __future__ import annotations

import json
import socket
import urllib.request

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def request(url: str, body: object = None, timeout_seconds: float = 60) -> bytes:
    """The answer to a GET, or to a POST of `body` as JSON; raises OSError (urllib.error.HTTPError for a refusal)."""
    data = None if body is None else json.dumps(body).encode()
    question = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with _DIRECT.open(question, timeout=timeout_seconds) as reply:
        return reply.read()


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
