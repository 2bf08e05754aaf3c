"""Load AR Model: a checkpoint file as its authors publish it -> the host's MODEL, marked with what was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import folder_paths
from comfy_api.latest import io
from typing_extensions import override

from ..headforcing_core.checkpoint.ar_facts import AUTO, facts_for
from ..headforcing_core.checkpoint.found_words import facts_in_words, warnings, weights_in_words
from ..headforcing_core.checkpoint.saved_choice import saved_choice
from ..headforcing_core.families.table import FAMILIES, most_chunk_frames
from .host import checkpoint_file
from .host.lora import LORA_FOLDER, add_lora
from .host.model import attach_facts
from .sockets import CATEGORY
from .status.node_status import NodeStatus

_FOLDER = "diffusion_models"
NO_LORA = "none"
_SUFFIXES = (".safetensors", ".sft", ".pt", ".pth", ".ckpt")


class LoadARModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [name for name in folder_paths.get_filename_list(_FOLDER) if name.lower().endswith(_SUFFIXES)]
        return io.Schema(
            node_id="HeadForcingLoadARModel",
            display_name="Load AR Model",
            category=CATEGORY,
            description="Loads an autoregressive checkpoint on Wan 2.1 or 2.2 (Self-Forcing and its relatives, "
            "LongLive-2, LingBot-World) as it was published, and says what it found.",
            search_aliases=["self forcing", "causal forcing", "longlive", "autoregressive", "lingbot", "few steps"],
            is_experimental=True,
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=files,
                    tooltip="The checkpoint, from models/diffusion_models. Everything in the video comes from it. "
                    "Typical: self_forcing_dmd.pt",
                ),
                io.Combo.Input(
                    "family",
                    options=[AUTO, *FAMILIES],
                    default=AUTO,
                    optional=True,
                    tooltip="How the model was trained: frames a chunk, steps, solver, trained range. A wrong one "
                    "gives flicker or mush. Typical: auto, which goes by the shapes in the file, then by its name.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(checkpoint_file.WEIGHT_DTYPES),
                    default="default",
                    optional=True,
                    tooltip="fp8 halves the memory of the weights for a slightly rougher picture. Typical: default",
                ),
                io.Int.Input(
                    "chunk_frames",
                    default=0,
                    min=0,
                    max=most_chunk_frames(),
                    optional=True,
                    advanced=True,
                    tooltip="Frames that are made together; must be what the model was trained with, or the video "
                    "stutters. Typical: 0 = from the family.",
                ),
                io.Combo.Input(
                    "lora",
                    options=[NO_LORA, *folder_paths.get_filename_list(LORA_FOLDER)],
                    default=NO_LORA,
                    optional=True,
                    tooltip="A LoRA that belongs to the checkpoint or changes its style, from models/loras, in any "
                    "training layout; LongLive and MemFlow are published in two such parts. Typical: none",
                ),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    optional=True,
                    tooltip="How strongly the LoRA changes the weights. Typical: 1",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model, for Profile Heads and the sampler."),
                io.String.Output(display_name="report", tooltip="What was found in the file, in words."),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls,
        model_name: str,
        family: str = AUTO,
        weight_dtype: str = "default",
        chunk_frames: int = 0,
        lora: str = NO_LORA,
        lora_strength: float = 1.0,
    ) -> str:
        return f"{_stamp(_FOLDER, model_name)} {_stamp(LORA_FOLDER, lora)}"

    @classmethod
    @override
    def execute(
        cls,
        model_name: str,
        family: str = AUTO,
        weight_dtype: str = "default",
        chunk_frames: int = 0,
        lora: str = NO_LORA,
        lora_strength: float = 1.0,
    ) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise(_FOLDER, model_name)
        weights = checkpoint_file.read_checkpoint(path)
        fingerprint, *older = weights.fingerprints()
        saved = saved_choice(weights.header)
        facts, told = facts_for(model_name, family, chunk_frames, fingerprint, saved, weights.channels)
        warned = warnings(model_name, facts, weights)
        lines = [
            f"{model_name}: {weights_in_words(weights)}",
            told,
            *facts_in_words(facts),
            f"Fingerprint {facts.fingerprint}.",
            *weights.notes,
            *warned,
        ]
        model = checkpoint_file.patcher_from(weights, path, weight_dtype)
        attach_facts(model, replace(facts, older_fingerprints=tuple(older)))
        status = NodeStatus(cls.hidden.unique_id)
        for warning in warned:
            status.warn(warning)
        if lora != NO_LORA and lora_strength != 0:
            file = folder_paths.get_full_path_or_raise(LORA_FOLDER, lora)
            model, fit, notes = add_lora(model, file, lora_strength)
            lines += [fit.told, *notes]
            if not fit.is_whole:
                status.warn(fit.told)
        return io.NodeOutput(model, "\n".join(lines))


def _stamp(folder: str, name: str) -> str:
    path = None if name == NO_LORA else folder_paths.get_full_path(folder, name)
    stat = Path(path).stat() if path else None
    return f"{name} {stat.st_mtime_ns} {stat.st_size}" if stat else name
