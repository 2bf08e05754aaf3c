"""What Ray starts in a process of its own. Shipped by value, so it reads nothing but the standard library until the
pack is there: `ray.cloudpickle.register_pickle_by_value` of this module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple


class Page(NamedTuple):
    """What another process needs to become as the page's: the host's folder, its command line and the plain values
    among what was read of it, the processor's threads, whether the host's memory is dynamic, and the pack's module name
    and folder."""

    host: str
    argv: tuple[str, ...]
    args: dict[str, Any]
    threads: int
    is_dynamic: bool
    pack: str
    folder: str


def this_page() -> Page:
    """The process that this is called in."""
    from pathlib import Path

    import comfy.cli_args
    import comfy.memory_management
    import comfy.options
    import torch

    pack = __name__.removesuffix(".nodes.cards.rank_process")
    args = vars(comfy.cli_args.args).items()
    return Page(
        str(Path(comfy.options.__file__).parents[1]),
        tuple(sys.argv[1:]) if comfy.options.args_parsing else (),
        {name: value for name, value in args if value is None or isinstance(value, str | int | float)},
        torch.get_num_threads(),
        bool(comfy.memory_management.aimdo_enabled),
        pack,
        str(Path(__file__).parents[2]),
    )


class RankProcess:
    """A process with the host and the pack as the page has them, and in it a Rank, whose methods it passes on. Whatever
    they raise comes out as a RankError."""

    def __init__(self, number: int, ranks: int, page: Page) -> None:
        _enter_host(page)
        _enter_pack(page)
        rank = importlib.import_module(f"{page.pack}.nodes.cards.rank")
        self._jobs = importlib.import_module(f"{page.pack}.nodes.cards.job")
        self._rank = rank.Rank(number, ranks)

    def join(self, store_file: str, seconds: float) -> None:
        """See Rank."""
        self._telling(self._rank.join, store_file, seconds)

    def load(self, recipe: Any) -> Any:
        """See Rank."""
        return self._telling(self._rank.load, recipe)

    def arrived(self) -> Any:
        """See Rank."""
        return self._telling(self._rank.arrived)

    def run(self, job: Any) -> None:
        """See Rank."""
        self._telling(self._rank.run, job)

    def hear(self, seconds: float = 0.5) -> list[Any]:
        """See Rank."""
        return self._rank.hear(seconds)

    def answer(self, value: object) -> None:
        """See Rank."""
        self._rank.answer(value)

    def cancel(self) -> None:
        """See Rank."""
        self._rank.cancel()

    def _telling(self, work: Callable[..., Any], *arguments: object) -> Any:
        """What a piece of work gives. Its error is told in words, since its class may be known in this process alone;
        only then is it gone, with all that it held."""
        try:
            return work(*arguments)
        except Exception as error:
            told = self._jobs.told(error)
        raise told


def _enter_host(page: Page) -> None:
    sys.argv[1:] = page.argv
    sys.path.insert(0, page.host)
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args

    vars(comfy.cli_args.args).update(page.args)  # a pack may have set some while the page ran
    if page.is_dynamic:
        import comfy_aimdo.control

        comfy_aimdo.control.init()  # before PyTorch
    import torch

    torch.set_num_threads(page.threads)
    if page.is_dynamic:
        _hold_weights_dynamically(page.args.get("vram_headroom", 0))


def _hold_weights_dynamically(headroom: float) -> None:
    """As the host does where it begins, so that weights are held, and LoRA added, as in the page's process."""
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher
    import comfy_aimdo.control

    devices = comfy.model_management.get_all_torch_devices()
    if comfy_aimdo.control.init_devices([(device.index, int(headroom * 2**30)) for device in devices]):
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True


def _enter_pack(page: Page) -> None:
    """Under the name that it has in the page's process, so that what either makes is known to the other; without its
    nodes, which nobody asks for here."""
    for name, folder in ((page.pack, page.folder), (f"{page.pack}.nodes", f"{page.folder}/nodes")):
        module = sys.modules[name] = ModuleType(name)
        module.__path__ = [folder]
