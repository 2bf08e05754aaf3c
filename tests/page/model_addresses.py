"""Where the files are that the shipped workflows name: the page offers those that are missing.

Left out: lingbot_world_v2_causal_fast.safetensors, which is published in parts that have to be joined.
"""

from typing import TypedDict

_WAN_2_1 = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
_WAN_2_2 = "https://huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"


class Address(TypedDict):
    """A file as `properties.models` of a node has it: its name, where it is, its folder below models."""

    name: str
    url: str
    directory: str


def _address(url: str, directory: str, name: str = "") -> Address:
    return {"name": name or url.rpartition("/")[2], "url": url, "directory": directory}


ADDRESSES = [
    _address(
        "https://huggingface.co/gdhe17/Self-Forcing/resolve/main/checkpoints/self_forcing_dmd.pt", "diffusion_models"
    ),
    _address(
        "https://huggingface.co/zhuhz22/Causal-Forcing/resolve/main/causal-forcing++/framewise-2step.pt",
        "diffusion_models",
    ),
    # the note of shots says under which name it is saved
    _address(
        "https://huggingface.co/Efficient-Large-Model/LongLive-2.0-5B/resolve/main/model_bf16.pt",
        "diffusion_models",
        "longlive2_5b_bf16.pt",
    ),
    _address(f"{_WAN_2_1}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders"),
    _address(f"{_WAN_2_1}/vae/wan_2.1_vae.safetensors", "vae"),
    _address(f"{_WAN_2_2}/vae/wan2.2_vae.safetensors", "vae"),
    _address("https://huggingface.co/lightx2v/Autoencoders/resolve/main/lighttaew2_1.safetensors", "vae_approx"),
]
