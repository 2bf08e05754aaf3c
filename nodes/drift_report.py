"""Drift Report: how a video changes from its first second to its last."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
from comfy_api.latest import Input, io
from torch import Tensor
from typing_extensions import override

from ..headforcing_core.drift.meter import FPS_RANGE, DriftMeter
from ..headforcing_core.drift.plot import draw_drift
from ..headforcing_core.drift.report_json import drift_report
from ..headforcing_core.families.self_forcing import SELF_FORCING
from .inputs import fps_input
from .sockets import CATEGORY
from .video.film import opened_film
from .video.image import to_image


class DriftReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingDriftReport",
            display_name="Drift Report",
            category=CATEGORY,
            description="Measures second by second how a video changes: colour drift, contrast, saturation, sharpness, "
            "motion, and how much it still looks like its beginning.",
            search_aliases=["video quality", "colour drift", "color drift", "consistency", "analyse", "long video"],
            is_experimental=True,
            inputs=[
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The pictures of a video, in order. Connect this or video.",
                ),
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="The video, from the sampler or Load Video. It is read picture by picture, so that an hour "
                    "takes no more memory than a second. Connect this or images.",
                ),
                fps_input(
                    "Pictures a second of images: what counts as a second in the plot. A video has its own. "
                    "Typical: 16",
                    most=FPS_RANGE[1],
                ),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="How the video changes, second by second, as curves."),
                io.String.Output(display_name="report", tooltip="The same in numbers, as JSON text."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    def execute(
        cls, images: Tensor | None = None, video: Input.Video | None = None, fps: float = SELF_FORCING.fps
    ) -> io.NodeOutput:
        with opened_film(images, video, fps) as film:
            meter = DriftMeter(film.fps)
            bar = comfy.utils.ProgressBar(film.expected_pictures, node_id=cls.hidden.unique_id)
            for picture in film.pictures:
                comfy.model_management.throw_exception_if_processing_interrupted()
                meter.add(picture)
                bar.update(1)
        drift = meter.finish()
        return io.NodeOutput(to_image(draw_drift(drift)), drift_report(drift))
