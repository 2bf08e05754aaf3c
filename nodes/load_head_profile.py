"""Load Head Profile: a saved profile by its name."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from .profiles.library import profile_names, profile_stamp, read_profile
from .profiles.measure_on_host import profile_picture
from .sockets import CATEGORY, HeadProfileSocket

_NONE_FOUND = "(none found)"


class LoadHeadProfile(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingLoadProfile",
            display_name="Load Head Profile",
            category=CATEGORY,
            description="Loads a head profile that Profile Heads saved.",
            search_aliases=["head forcing", "attention heads", "head map"],
            is_experimental=True,
            inputs=[
                io.Combo.Input(
                    "profile_name",
                    options=profile_names() or [_NONE_FOUND],
                    tooltip="A profile from models/head_profiles. It must have been made on the checkpoint you sample "
                    "with, or the video forgets the wrong things.",
                )
            ],
            outputs=[
                HeadProfileSocket.Output(display_name="profile", tooltip="Which head does what; for the sampler."),
                io.Image.Output(display_name="map", tooltip="The heads as a picture: a row for each layer."),
            ],
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, profile_name: str) -> str:
        return profile_stamp(profile_name)

    @classmethod
    @override
    def execute(cls, profile_name: str) -> io.NodeOutput:
        if profile_name == _NONE_FOUND:
            raise RuntimeError(
                "There is no head profile in models/head_profiles yet. Nothing can be loaded. Run Profile "
                "Heads with save_as set, then refresh."
            )
        profile = read_profile(profile_name)
        return io.NodeOutput(profile, profile_picture(profile))
