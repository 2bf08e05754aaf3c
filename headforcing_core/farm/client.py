"""A plain, blocking client of one running ComfyUI."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict, cast

import aiohttp

from .events import ENDINGS, Event, Preview, parse
from .loopback import request

Workflow = Mapping[str, Mapping[str, object]]
NodeErrors = dict[str, dict[str, object]]
OnEvent = Callable[[Event | Preview], None]
_FEATURES = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


class Queued(TypedDict):
    """ComfyUI's answer to an accepted prompt."""

    prompt_id: str
    node_errors: NodeErrors


class OutputFile(TypedDict):
    """A file that a node saved, as ComfyUI names it."""

    filename: str
    subfolder: str
    type: str


class NodeOutputs(TypedDict, total=False):
    """What one node showed."""

    text: list[str]
    images: list[OutputFile]


class HistoryEntry(TypedDict):
    """What ComfyUI remembers of one run: its outputs by node id."""

    outputs: dict[str, NodeOutputs]


class PromptRejected(Exception):
    """ComfyUI refused a prompt (HTTP 400). `node_errors` is its own report by node id, `message` the headline."""

    def __init__(self, message: str, node_errors: NodeErrors) -> None:
        super().__init__(f"{message}: {json.dumps(node_errors)}")
        self.message: str = message
        self.node_errors: NodeErrors = node_errors


@dataclass(frozen=True)
class RunResult:
    """How a run ended: `status` is success, error or interrupted; the three error fields are empty on success.

    `node_errors` is not empty when ComfyUI queued the workflow without the outputs that it found wrong.
    """

    status: str
    prompt_id: str
    error: str = ""
    node_id: str = ""
    node_type: str = ""
    node_errors: NodeErrors = field(default_factory=dict)
    outputs: dict[str, NodeOutputs] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)


class Client:
    """Talks to the ComfyUI at `url`, e.g. http://127.0.0.1:8188. When it `is_strict`, a workflow that ComfyUI would run
    without some of its outputs is refused whole."""

    def __init__(self, url: str, is_strict: bool = False) -> None:
        self.url = url
        self._is_strict = is_strict

    def run(
        self,
        workflow: Workflow,
        on_event: OnEvent = lambda event: None,
        timeout_seconds: float = 300,
        preview_method: str = "auto",
    ) -> RunResult:
        """Queue a workflow and follow it to its end. `on_event` sees each event as it comes and may call `interrupt`.

        Raises PromptRejected; ConnectionError when ComfyUI ends meanwhile; TimeoutError. Not from within an event loop.
        """
        seen: list[Event | Preview] = []

        def hear(event: Event | Preview) -> None:
            seen.append(event)
            on_event(event)

        queued, end = self.follow(workflow, hear, timeout_seconds, preview_method)
        return RunResult(
            status=ENDINGS[end.kind],
            prompt_id=queued["prompt_id"],
            error=end.text("exception_message"),
            node_id=end.text("node_id"),
            node_type=end.text("node_type"),
            node_errors=queued["node_errors"],
            outputs=self.history(queued["prompt_id"])["outputs"],
            events=[event for event in seen if isinstance(event, Event)],
            previews=[preview for preview in seen if isinstance(preview, Preview)],
        )

    def follow(
        self, workflow: Workflow, on_event: OnEvent, timeout_seconds: float | None = None, preview_method: str = "none"
    ) -> tuple[Queued, Event]:
        """As `run`, for runs of any length: nothing of what was said is kept but the last event."""
        following = self._follow(workflow, on_event, preview_method)
        try:
            return asyncio.run(asyncio.wait_for(following, timeout_seconds))
        except TimeoutError:
            raise TimeoutError(f"ComfyUI did not end the run within {timeout_seconds} s") from None
        except aiohttp.ClientError as error:
            raise ConnectionError(f"the websocket of ComfyUI closed: {error}") from None

    async def _follow(self, workflow: Workflow, on_event: OnEvent, preview_method: str) -> tuple[Queued, Event]:
        """Queue a workflow as soon as its websocket is heard; the answer, and the last that was said."""
        client_id = uuid.uuid4().hex
        queued: Queued | None = None
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/ws", params={"clientId": client_id}, max_msg_size=0) as socket,
        ):
            await socket.send_json(_FEATURES)
            async for message in socket:
                event = parse(message.data)
                if queued is None:
                    if isinstance(event, Event) and event.kind == "feature_flags":
                        queued = self._submit(workflow, client_id, preview_method)
                elif event is not None:
                    on_event(event)
                    if isinstance(event, Event) and event.ends(queued["prompt_id"]):
                        return queued, event
        raise ConnectionError("the websocket of ComfyUI closed: the server ended the connection")

    def submit(self, workflow: Workflow) -> str:
        """Queue a workflow without following it; its prompt id. Raises PromptRejected."""
        return self._submit(workflow, client_id="", preview_method="auto")["prompt_id"]

    def _submit(self, workflow: Workflow, client_id: str, preview_method: str) -> Queued:
        body = {"prompt": workflow, "client_id": client_id, "extra_data": {"preview_method": preview_method}}
        try:
            reply = json.loads(request(f"{self.url}/prompt", body))
        except urllib.error.HTTPError as refusal:
            if refusal.code != 400:
                raise
            content = json.loads(refusal.read() or b"{}")
            message = content.get("error", {}).get("message", str(refusal))
            raise PromptRejected(message, content.get("node_errors") or {}) from None
        prompt_id, node_errors = reply["prompt_id"], reply.get("node_errors") or {}
        if node_errors and self._is_strict:
            request(f"{self.url}/queue", {"delete": [prompt_id]})
            self.interrupt(prompt_id)
            raise PromptRejected("Some outputs of the workflow cannot be made", node_errors)
        return {"prompt_id": prompt_id, "node_errors": node_errors}

    def interrupt(self, prompt_id: str = "") -> None:
        """Stop what runs now, or only this prompt."""
        request(f"{self.url}/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def history(self, prompt_id: str, timeout_seconds: float = 10) -> HistoryEntry:
        """What a run left behind. It appears a little after the run's last event; raises TimeoutError without it."""
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end:
            found = cast(dict[str, HistoryEntry], json.loads(request(f"{self.url}/history/{prompt_id}")))
            if prompt_id in found:
                return found[prompt_id]
            time.sleep(0.05)
        raise TimeoutError(f"ComfyUI has no history of prompt {prompt_id} after {timeout_seconds} s")

    def object_info(self, class_type: str = "") -> dict[str, dict[str, object]]:
        """The description of one node type, or of all of them, by type."""
        return json.loads(request(f"{self.url}/object_info/{urllib.parse.quote(class_type, safe='')}".rstrip("/")))

    def download(self, file: OutputFile) -> bytes:
        """The content of a file that a node saved."""
        wanted = {"filename": file["filename"], "subfolder": file["subfolder"], "type": file["type"]}
        return request(f"{self.url}/view?{urllib.parse.urlencode(wanted)}")
