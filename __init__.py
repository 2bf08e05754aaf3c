"""ComfyUI Head Forcing: minute-long video from a five-second autoregressive model, without training."""

from importlib.util import find_spec

if __package__ and find_spec("comfy_api") is not None:  # test runners import this file without the host
    from .nodes import WEB_DIRECTORY, comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
