"""What a running ComfyUI says on its websocket, as plain values."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import cast

_PREVIEW, _TEXT, _PREVIEW_WITH_METADATA = 1, 3, 4
ENDINGS = {"execution_success": "success", "execution_error": "error", "execution_interrupted": "interrupted"}


@dataclass(frozen=True)
class Event:
    """One text event: its kind as ComfyUI names it (a node's text: `progress_text`) and its data."""

    kind: str
    data: dict[str, object]

    def text(self, key: str) -> str:
        """One field as text; empty when the event has none."""
        value = self.data.get(key)
        return "" if value is None else str(value)

    def ends(self, prompt_id: str) -> bool:
        """Whether it is the last of this prompt."""
        return self.kind in ENDINGS and self.text("prompt_id") == prompt_id


@dataclass(frozen=True)
class Preview:
    """One live picture: the node that it is shown on (empty when ComfyUI did not say) and an encoded image."""

    node_id: str
    image: bytes


def parse(message: object) -> Event | Preview | None:
    """The event or preview of a websocket message, a text or bytes; None for kinds that nobody here asks for."""
    if isinstance(message, str):
        content = json.loads(message)
        return Event(content["type"], content.get("data") or {})
    return _parse_binary(message) if isinstance(message, bytes) else None


def _parse_binary(message: bytes) -> Event | Preview | None:
    (kind,) = struct.unpack_from(">I", message)
    if kind == _PREVIEW:
        return Preview("", message[8:])
    if kind not in (_TEXT, _PREVIEW_WITH_METADATA):
        return None
    (length,) = struct.unpack_from(">I", message, 4)
    head, body = message[8 : 8 + length].decode("utf-8"), message[8 + length :]
    if kind == _TEXT:
        return Event("progress_text", {"node_id": head, "text": body.decode("utf-8")})
    metadata = cast(dict[str, object], json.loads(head))
    return Preview(str(metadata.get("display_node_id", "")), body)
