"""What Ray starts in a process of its own. Shipped by value, so it reads nothing but the standard library until the
pack is there: `ray.cloudpickle.register_pickle_by_value` of this module."""

from __future__ import annotations

from typing import Any, NamedTuple


class Page(NamedTuple):
    """What another process needs to become as the page's: folder of the host, the command line and the plain values
    among what was parsed of it, whether the host's memory is dynamic, and the pack's module name and folder."""

    host: str
    argv: tuple[str, ...]
    args: dict[str, Any]
    is_dynamic: bool
    pack: str
    folder: str


def this_page() -> Page:
    """The process that this is called in."""
    raise NotImplementedError


class RankProcess:
    """A process with the host and the pack as the page has them, and in it a Rank, whose methods it passes on, under
    their names. Whatever they raise comes out as a RankError of `job`."""

    def __init__(self, number: int, ranks: int, page: Page) -> None:
        raise NotImplementedError

    def join(self, store_file: str, seconds: float) -> None:
        """See Rank."""
        raise NotImplementedError

    def load(self, recipe: Any) -> Any:
        """See Rank."""
        raise NotImplementedError

    def run(self, job: Any) -> None:
        """See Rank."""
        raise NotImplementedError

    def hear(self, seconds: float = 0.5) -> list[Any]:
        """See Rank."""
        raise NotImplementedError

    def answer(self, value: object) -> None:
        """See Rank."""
        raise NotImplementedError

    def cancel(self) -> None:
        """See Rank."""
        raise NotImplementedError
