"""The newest chunk as a moving preview on its node, while the next one is made.

The host shows one still picture a preview. So the chunk's pictures are sent one after the other, at their own speed,
over and over: the page needs no script for it, and classic nodes and Vue nodes show it alike.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import latent_preview
import torch
from comfy_api.feature_flags import supports_feature
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image
from protocol import BinaryEventTypes
from server import PromptServer
from torch import Tensor

from ...headforcing_core.geometry import TIME_STRIDE

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MOST_A_SECOND = 8.0
_LONGEST_SIDE = 384
_MOST_WAITING = 4  # messages of the server

Show = Callable[[Image.Image], None]

log = logging.getLogger(__name__)


class Flipbook:
    """Shows pictures in turn until others come or it is closed; `show` is called from a thread of its own, which also
    ends when it fails."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._changed = threading.Condition()
        self._pictures: Sequence[Image.Image] = ()
        self._seconds = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    def turn_to(self, pictures: Sequence[Image.Image], seconds: float) -> None:
        """Show these from now on, each for so many seconds; with none of them, go on as before."""
        if not pictures:
            return
        with self._changed:
            self._pictures, self._seconds = pictures, seconds
            self._changed.notify()
            if self._thread is None:
                thread = threading.Thread(target=self._turn, name="head-forcing-preview", daemon=True)
                thread.start()
                self._thread = thread

    def close(self) -> None:
        """Stop, with the picture that is shown."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _turn(self) -> None:
        try:
            self._turn_pages()
        except Exception:  # a video is not to end for its preview
            log.warning("Head forcing: no preview any more, since one could not be shown", exc_info=True)

    def _turn_pages(self) -> None:
        shown: Sequence[Image.Image] = ()
        page = 0
        with self._changed:
            while not self._closed:
                if shown is not self._pictures:
                    shown, page = self._pictures, 0
                self._show(shown[page % len(shown)])
                page += 1
                self._changed.wait(self._seconds if len(shown) > 1 else None)


def show_on(node_id: str | None) -> Show:
    """What shows a picture on a node, in the page that started this; nothing without a server."""
    server, context = getattr(PromptServer, "instance", None), get_executing_context()
    if server is None or node_id is None or context is None:
        return lambda picture: None
    client, prompt = server.client_id, get_progress_state().dynprompt
    place = {
        "node_id": node_id,
        "prompt_id": context.prompt_id,
        "display_node_id": prompt.get_display_node_id(node_id),
        "parent_node_id": prompt.get_parent_node_id(node_id),
        "real_node_id": prompt.get_real_node_id(node_id),
    }
    takes_place = supports_feature(server.sockets_metadata, client, "supports_preview_metadata")

    def show(picture: Image.Image) -> None:
        if server.messages.qsize() > _MOST_WAITING:  # one queue serves all pages: a slow one must not hold up the rest
            return
        image = ("JPEG", picture, _LONGEST_SIDE)
        if takes_place:
            server.send_sync(BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, (image, dict(place)), client)
        else:
            server.send_sync(BinaryEventTypes.UNENCODED_PREVIEW_IMAGE, image, client)

    return show


def frame_previewer(model: ModelPatcher) -> latent_preview.LatentPreviewer | None:
    """What draws one frame of a latent; None when no previews are wanted. Other packs put theirs in place of the
    host's. One that takes a whole clip and shows it by itself, as that of the Video Helper Suite does, would give a
    still of a single frame, or nothing: then it is the host's own, if that can be found beneath."""
    asked = model.load_device, model.model.latent_format
    found = latent_preview.get_previewer(*asked)
    drawing = getattr(type(found), "decode_latent_to_preview_image", None)
    if found is None or drawing is latent_preview.LatentPreviewer.decode_latent_to_preview_image:
        return found
    return inspect.unwrap(latent_preview.get_previewer)(*asked)


def flipped_pictures(pictures: Tensor, fps: float) -> tuple[list[Image.Image], float]:
    """Of decoded pictures, (pictures, height, width, 3) in 0 to 1, those that are shown, small, and the seconds of
    each: at most MOST_A_SECOND, at the speed of the video."""
    stride = math.ceil(fps / MOST_A_SECOND)
    chosen = pictures[::stride].movedim(-1, 1).float()
    scale = min(1.0, _LONGEST_SIDE / max(chosen.shape[-2:]))
    if scale < 1:
        chosen = torch.nn.functional.interpolate(chosen, scale_factor=scale, mode="area")
    small = chosen.mul(255).clamp(0, 255).to("cpu", torch.uint8).movedim(1, -1).numpy()
    return [Image.fromarray(picture) for picture in small], stride / fps


def flipped_frames(
    latent: Tensor, preview: Callable[[Tensor], Image.Image | None], fps: float
) -> tuple[list[Image.Image], float]:
    """Of a chunk's latent, (1, channels, frames, height, width), a picture of every frame that `preview` draws,
    and the seconds of each."""
    pictures = [preview(frame) for frame in latent.split(1, dim=2)]
    return [picture for picture in pictures if picture is not None], TIME_STRIDE / fps
