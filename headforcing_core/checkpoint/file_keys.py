"""What a checkpoint file holds, found below its outer keys."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

from .tensor_names import is_known_key, named_together, plain_name

_FLAT_KEYS = ("generator_ema", "generator", "generator_lora")  # written out before every name where a file has no keys
_DEEPEST = 4

Held: TypeAlias = Mapping[str, object]


class Found(NamedTuple):
    """What stands below the outer keys of a file, where that is in words, and what stands under other keys."""

    source: str
    held: Held
    aside: Held


def below_keys(raw: Mapping[object, object], keys: Sequence[str]) -> Found:
    """Go down a file's keys, the preferred ones first, to where tensors stand."""
    held: Held = {str(name): value for name, value in raw.items()}
    passed: list[str] = []
    aside: dict[str, object] = {}
    while len(passed) < _DEEPEST:
        key = next((key for key in keys if holds_tensors(_under(held, key))), None) or _other_key(held)
        if key is None:
            break
        below = _under(held, key)
        rest = {name: value for name, value in held.items() if name != key and not name.startswith(f"{key}.")}
        aside |= _by_key(rest) if key not in held else rest
        held = below
        passed.append(key)
    aside |= {name: value for name, value in held.items() if not isinstance(value, Tensor)}
    return Found(f"key {'.'.join(passed)}" if passed else "no outer key", held, aside)


def plainly_named(held: Held, file_name: str) -> dict[str, Tensor]:
    """The tensors under their plain names. ValueError where two have the same."""
    tensors: dict[str, Tensor] = {}
    first: dict[str, str] = {}
    for name, value in held.items():
        if not isinstance(value, Tensor):
            continue
        plain = plain_name(name)
        if plain in tensors:
            raise ValueError(
                f"{file_name} holds {plain} twice, as {first[plain]} and {name}. Which of the two is the model cannot "
                "be told. Save one model alone in the file."
            )
        tensors[plain], first[plain] = value, name
    return tensors


def holds_tensors(value: object) -> bool:
    """Whether there are tensors in what stands under a key."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, Tensor):
            return True
        if isinstance(each, Mapping):
            left.extend(each.values())
    return False


def keys_in_words(aside: Held) -> tuple[str, ...]:
    """A sentence on what stands under other keys, if anything does."""
    return (f"Left aside in the file: {named_together(aside)}.",) if aside else ()


def _under(held: Held, key: str) -> Held:
    nested = held.get(key)
    if isinstance(nested, Mapping):
        return {str(name): value for name, value in nested.items()}
    if key not in _FLAT_KEYS:
        return {}
    return {name.removeprefix(f"{key}."): value for name, value in held.items() if name.startswith(f"{key}.")}


def _other_key(held: Held) -> str | None:
    """The key that stands for a model where none of the usual does: rather none of a training's state."""
    if any(isinstance(value, Tensor) for value in held.values()):
        return None
    found = [(key, value) for key, value in held.items() if isinstance(value, Mapping) and holds_tensors(value)]
    beside = [(is_known_key(key), not any(isinstance(each, Tensor) for each in value.values())) for key, value in found]
    return found[beside.index(min(beside))][0] if found else None


def _by_key(rest: Held) -> dict[str, object]:
    return {name.partition(".")[0]: value for name, value in rest.items()}
