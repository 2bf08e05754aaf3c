"""Load AR Model: a checkpoint file as its authors publish it -> the host's MODEL, marked with what was found."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io
from typing_extensions import override

from ..headforcing_core.checkpoint.families import AUTO, FAMILIES, facts_for
from ..headforcing_core.checkpoint.fingerprint import weights_fingerprint
from ..headforcing_core.geometry import TRAINED_FRAMES
from .host import checkpoint_file
from .host.model import attach_facts
from .sockets import CATEGORY

_FOLDER = "diffusion_models"
_SUFFIXES = (".safetensors", ".sft", ".pt", ".pth", ".ckpt")


class LoadARModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [name for name in folder_paths.get_filename_list(_FOLDER) if name.lower().endswith(_SUFFIXES)]
        return io.Schema(
            node_id="HeadForcingLoadARModel",
            display_name="Load AR Model",
            category=CATEGORY,
            description="Loads an autoregressive Wan 2.1 checkpoint (Self-Forcing and its relatives) as it was "
            "published, and says what it found.",
            search_aliases=["self forcing", "causal forcing", "longlive", "autoregressive"],
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
                    tooltip="How the model was trained: frames a chunk and step sizes. A wrong one gives flicker or "
                    "mush. Typical: auto, which goes by the file name.",
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
                    max=TRAINED_FRAMES - 1,
                    optional=True,
                    advanced=True,
                    tooltip="Frames that are made together; must be what the model was trained with, or the video "
                    "stutters. Typical: 0 = from the family (3, or 1 for frame-wise models).",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model, for Profile Heads and the sampler."),
                io.String.Output(display_name="report", tooltip="What was found in the file, in words."),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, model_name: str, family: str = AUTO, weight_dtype: str = "default", chunk_frames: int = 0
    ) -> str:
        path = folder_paths.get_full_path(_FOLDER, model_name)
        stat = Path(path).stat() if path else None
        return f"{model_name} {stat.st_mtime_ns} {stat.st_size}" if stat else model_name

    @classmethod
    @override
    def execute(
        cls, model_name: str, family: str = AUTO, weight_dtype: str = "default", chunk_frames: int = 0
    ) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise(_FOLDER, model_name)
        weights = checkpoint_file.read_checkpoint(path)
        facts, told = facts_for(model_name, family, chunk_frames, weights_fingerprint(weights.tensors))
        lines = [
            f"{model_name}: Wan 2.1 text-to-video, {weights.layers} layers of {weights.heads} heads, taken from "
            f"{weights.source}.",
            told,
            f"{facts.chunk_frames} frames a chunk, {len(facts.sigmas) - 1} steps "
            f"({', '.join(f'{sigma:g}' for sigma in facts.sigmas)}), trained on {facts.trained_frames} frames.",
            f"Fingerprint {facts.fingerprint}.",
        ]
        model = checkpoint_file.patcher_from(weights, path, weight_dtype)
        attach_facts(model, facts)
        return io.NodeOutput(model, "\n".join(lines))
