"""LoRA that leaves weights as they are: by the nodes before the sampler, and by what they have made of its MODEL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import folder_paths

from ...headforcing_core.checkpoint.saved_choice import LOADER
from ...headforcing_core.files.api_workflow import inputs_of, upstream
from ..host.lora import LORA_FOLDER, added_fits, named_fits, unnamed_fit

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy_execution.graph import DynamicPrompt


def lora_warnings(model: ModelPatcher, dynprompt: DynamicPrompt | None, node_id: str | None) -> tuple[str, ...]:
    """A sentence on each LoRA of which not all changes the MODEL, whatever node has added it."""
    names = dict.fromkeys(_named_before(dynprompt, node_id)) if dynprompt is not None and node_id is not None else ()
    paths = [path for name in names if (path := folder_paths.get_full_path(LORA_FOLDER, name)) is not None]
    fits = [*added_fits(model), *named_fits(model, paths)]
    if not any(fit.other_size for fit in fits):
        fits.append(unnamed_fit(model))
    return tuple(fit.told for fit in fits if not fit.is_whole)


def _named_before(dynprompt: DynamicPrompt, node_id: str) -> Iterator[str]:
    """The LoRA files that nodes before this one name in their inputs, and have not switched off."""
    known = set(folder_paths.get_filename_list(LORA_FOLDER))
    nodes = {each: dynprompt.get_node(each) for each in dynprompt.all_node_ids()}
    for node in upstream(nodes, node_id, "model"):
        if node.get("class_type") != LOADER:
            yield from _named_in(inputs_of(node), known)


def _named_in(inputs: Mapping[str, object], known: set[str]) -> Iterator[str]:
    strengths = [
        value
        for name, value in inputs.items()
        if "strength" in name and "clip" not in name and isinstance(value, int | float)
    ]
    if inputs.get("on") is False or (strengths and not any(strengths)):
        return
    for value in inputs.values():
        if isinstance(value, str) and value in known:
            yield value
        elif isinstance(value, Mapping):
            yield from _named_in(value, known)
