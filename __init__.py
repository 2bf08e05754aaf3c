"""ComfyUI Head Forcing: minute-long video from a five-second autoregressive model, without training."""

if __package__:  # the host loads this folder as a package; test runners import the file alone
    from .nodes import WEB_DIRECTORY, comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
