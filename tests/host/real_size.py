"""VAEs of the real size, without numbers, and a count of what they would take."""

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Storages(TorchDispatchMode):
    """Counts bytes of the storages that are made inside, and says how many there were at most at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._live.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self._live = {place: entry for place, entry in self._live.items() if not entry[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._live.values()))
        return made


def empty_vae(version: str):
    """The host's VAE of the real size, without numbers."""
    import comfy.ldm.wan.vae
    import comfy.ldm.wan.vae2_2
    import comfy.sd

    wan = {"21": comfy.ldm.wan.vae.WanVAE, "22": comfy.ldm.wan.vae2_2.WanVAE}[version]
    shape = {"dim": 96, "z_dim": 16} if version == "21" else {"dim": 160, "z_dim": 48}
    with torch.device("meta"):
        weights = wan(**shape, temperal_downsample=[False, True, True]).state_dict()
        vae = comfy.sd.VAE(sd=weights, device=torch.device("meta"), dtype=torch.bfloat16)
    assert type(vae.first_stage_model) is wan
    for module in vae.first_stage_model.modules():
        if hasattr(module, "optimized_attention"):
            module.optimized_attention = lambda q, k, v: torch.empty_like(q)
    return vae
