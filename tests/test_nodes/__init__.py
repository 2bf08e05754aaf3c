"""Nodes for tests only: a loader of text encoders smaller than those that the stock CLIPLoader takes, and a loop."""

import json

import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy.text_encoders import wan
from comfy_api.latest import ComfyExtension, io
from comfy_execution.graph_utils import GraphBuilder, Node


class WanTextEncoder:
    """What the host's CLIP class asks of a text encoder: model, parameters and tokenizer class."""

    params: dict[str, object] = {}
    tokenizer = wan.WanT5Tokenizer
    clip = wan.te(dtype_t5=torch.float32)


class HeadForcingTestLoadUMT5(io.ComfyNode):
    """Load a UMT5 of any size that carries its configuration in the metadata, and to how many tokens it pads a text, if
    not to 512."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """One file name in, a CLIP out, as the stock loader has it."""
        return io.Schema(
            node_id="HeadForcingTestLoadUMT5",
            display_name="Load Tiny UMT5 (test)",
            category="head forcing/test",
            inputs=[io.Combo.Input("clip_name", options=folder_paths.get_filename_list("text_encoders"))],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        """Load through the host's own Wan text encoder, so that the stock CLIPTextEncode works on it."""
        path = folder_paths.get_full_path_or_raise("text_encoders", clip_name)
        weights, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
        config = json.loads(metadata["config"])
        tokenizer = {"spiece_model": weights.pop("spiece_model"), "umt5xxl_embedding_size": config["d_model"]}
        clip = comfy.sd.CLIP(
            WanTextEncoder,
            tokenizer_data=tokenizer,
            parameters=comfy.utils.calculate_parameters(weights),
            state_dict=[weights],
            model_options={"umt5xxl_model_config": config},
        )
        if "tokens" in metadata:
            clip.set_tokenizer_option("umt5xxl_min_length", int(metadata["tokens"]))
        return io.NodeOutput(clip)


class HeadForcingTestLoop(io.ComfyNode):
    """Run copies of a sampler one after the other, each with the next seed, as a loop of the host does: under ids of
    their own, shown as the node that stands in the workflow."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The id of the sampler and how often it runs, each time with the seed of before and `seed_step`, and with a
        prompt of its own, if there are some, one a line; `again` makes the host run it anew. The last report, and that
        before it."""
        return io.Schema(
            node_id="HeadForcingTestLoop",
            display_name="Loop (test)",
            category="head forcing/test",
            inputs=[
                io.String.Input("body"),
                io.Int.Input("times", min=1),
                io.Int.Input("seed"),
                io.Int.Input("seed_step", default=1, optional=True),
                io.String.Input("prompts", multiline=True, optional=True),
                io.Int.Input("again", optional=True),
            ],
            outputs=[io.String.Output(), io.String.Output()],
            hidden=[io.Hidden.dynprompt],
            enable_expand=True,
        )

    @classmethod
    def execute(
        cls, body: str, times: int, seed: int, seed_step: int = 1, prompts: str = "", again: int = 0
    ) -> io.NodeOutput:
        """One copy a round; each goes on with the video of the one before."""
        graph, lines = GraphBuilder(), prompts.splitlines()

        def copied(node_id: str, number: int, **changed: object) -> Node:
            given = cls.hidden.dynprompt.get_node(node_id)
            copy = graph.node(given["class_type"], f"{number}_{node_id}", **{**given["inputs"], **changed})
            copy.set_override_display_id(node_id)
            return copy

        schedule, _ = cls.hidden.dynprompt.get_node(body)["inputs"].get("schedule", ("", 0))
        copies: list[Node] = []
        for number in range(times):
            scene: dict[str, object] = {"seed": seed + seed_step * number}
            if number < len(lines):
                scene["schedule"] = copied(schedule, number, text=lines[number]).out(0)
            if copies:
                scene["previous"] = copies[-1].out(0)
            copies.append(copied(body, number, **scene))
        return io.NodeOutput(copies[-1].out(3), copies[max(times - 2, 0)].out(3), expand=graph.finalize())


class HeadForcingTestNodes(ComfyExtension):
    """The pack of test nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of the pack."""
        return [HeadForcingTestLoadUMT5, HeadForcingTestLoop]


async def comfy_entrypoint() -> HeadForcingTestNodes:
    """Called by the host when it loads the pack."""
    return HeadForcingTestNodes()
