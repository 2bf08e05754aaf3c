"""What the artist sees: the pack's nodes, and the one file that knows the host (host.py)."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .cache_policy import HeadCachePolicy
from .drift_report import DriftReport
from .load_model import LoadARModel
from .load_profile import LoadHeadProfile
from .profile_heads import ProfileHeads
from .prompt_schedule import PromptScheduleNode
from .routes import register_routes
from .sampler import HeadForcedSampler

WEB_DIRECTORY = "./web"


class HeadForcingExtension(ComfyExtension):
    @override
    async def on_load(self) -> None:
        register_routes()

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadARModel,
            ProfileHeads,
            LoadHeadProfile,
            PromptScheduleNode,
            HeadCachePolicy,
            HeadForcedSampler,
            DriftReport,
        ]


async def comfy_entrypoint() -> HeadForcingExtension:
    return HeadForcingExtension()
