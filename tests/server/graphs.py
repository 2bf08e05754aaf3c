"""Workflows in API form for the running host; the ids of their nodes are words."""

from devtools.server.tiny_workflow import TINY_HEIGHT, TINY_WIDTH, Node, Workflow

SIZE = {"width": TINY_WIDTH, "height": TINY_HEIGHT}


def node(class_type: str, **inputs: object) -> Node:
    """One node; a link is `[node id, output index]`."""
    return {"class_type": class_type, "inputs": inputs}


def sampling(text: str = "a red fox in deep snow", **inputs: object) -> Workflow:
    """One short run under one policy for all heads, which needs no profile; `inputs` are the sampler's.

    An input that is None is left out.
    """
    given = {
        "model": ["model", 0],
        "schedule": ["schedule", 0],
        "policy": ["policy", 0],
        "seconds": 0.5,
        "seed": 1,
        **SIZE,
        **inputs,
    }
    return {
        "model": node("HeadForcingLoadARModel", model_name="self_forcing_dmd.safetensors"),
        "clip": node("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors"),
        "schedule": node("HeadForcingPromptSchedule", clip=["clip", 0], text=text),
        "policy": node("HeadForcingCachePolicy", preset="uniform"),
        "sampler": node("HeadForcingSampler", **{name: value for name, value in given.items() if value is not None}),
        "report": node("PreviewAny", source=["sampler", 3]),
    }
