"""What the artist sees: the pack's nodes, and the one file that knows the host (host.py)."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .drift_report import DriftReport
from .head_cache_policy import HeadCachePolicy
from .head_forced_sampler import HeadForcedSampler
from .load_ar_model import LoadARModel
from .load_head_profile import LoadHeadProfile
from .profile_heads import ProfileHeads
from .prompt_schedule import PromptScheduleNode
from .spread_over_cards import SpreadOverCards
from .web_api.routes import register_routes

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
            SpreadOverCards,
        ]


async def comfy_entrypoint() -> HeadForcingExtension:
    return HeadForcingExtension()
