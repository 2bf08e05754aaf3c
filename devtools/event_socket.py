"""The websocket of a running ComfyUI. With demo.py the only module of devtools beyond the standard library.

It is read by a thread of its own, so that a test which already runs an event loop can follow a run too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
import time
import uuid
from typing import Self

import aiohttp

from .events import Event, Preview, parse_binary, parse_text

_FEATURES = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})


class EventSocket:
    """A websocket with a client id of its own, read in the background while the `with` lasts."""

    def __init__(self, url: str) -> None:
        self.client_id = uuid.uuid4().hex
        self._url = f"{url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        self._incoming: queue.Queue[Event | Preview | ConnectionError] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        end = time.monotonic() + 30
        event = self.next(end)
        while not (isinstance(event, Event) and event.kind == "feature_flags"):
            event = self.next(end)
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def next(self, end: float) -> Event | Preview:
        """The next event, waiting until the monotonic time `end`."""
        try:
            event = self._incoming.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise TimeoutError("ComfyUI said nothing more on its websocket in the time given") from None
        if isinstance(event, ConnectionError):
            raise event
        return event

    def _main(self) -> None:
        reason = "the server ended the connection"
        try:
            self._task = self._loop.create_task(self._read())
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error)
        finally:
            self._incoming.put(ConnectionError(f"the websocket of ComfyUI closed: {reason}"))
            self._loop.close()

    async def _read(self) -> None:
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.ws_connect(self._url, max_msg_size=0) as socket,
        ):
            await socket.send_str(_FEATURES)
            async for message in socket:
                event = parse_text(message.data) if message.type is aiohttp.WSMsgType.TEXT else None
                if message.type is aiohttp.WSMsgType.BINARY:
                    event = parse_binary(message.data)
                if event is not None:
                    self._incoming.put(event)
