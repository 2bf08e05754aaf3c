"""POST /head_forcing/cost: what a run will take, from the widgets alone, for the line on the sampler.

Asked: `sampler`, an object of six of its widgets, of `strength` where a video is linked, and of `has_audio`, true,
where one is; `policy` and `model`, all widgets of the Head Cache Policy and three of the Load AR Model before it, null
where there is none, and a policy that cannot be known is "unknown"; `beginning`, the input that the video goes on from;
`steps` of the scheduler whose sigmas are connected, 0 where none are. A widget whose value comes from another node is
null: what depends on it is not told.
Steps that cannot be known are null too: recall is told at its most.

Answered: {"line", "level", "sentence", "tooltip"}: what is known, in one line; plain, warning or error; the sentence
that goes with the latter two; and what was taken for granted.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, cast

from comfy_api.latest import io

from ...headforcing_core.checkpoint.ar_facts import AUTO, ARFacts, assumed_facts, facts_for
from ...headforcing_core.families.table import FAMILIES
from ...headforcing_core.files.strict_json import Fields, Json
from ...headforcing_core.policy.cache_policy import CachePolicy
from ...headforcing_core.policy.presets import PRESETS
from ...headforcing_core.run_store.folder import ON_EXISTING
from ..head_cache_policy import HeadCachePolicy
from .widget_cost import BEGINNINGS, SamplerWidgets, cost_parts, usual_record

FIELDS = ("sampler", "policy", "model", "beginning", "steps")
UNKNOWN = "unknown"
_SAMPLER = ("seconds", "fps", "width", "height", "run_name", "on_existing_run")
_STRENGTH, _AUDIO = "strength", "has_audio"
_MODEL = ("model_name", "family", "chunk_frames")
_POLICY = tuple(each.id for each in HeadCachePolicy.define_schema().inputs)
_POLICY_TEXTS = ("preset", "rope", "commit_context", "episode", "episode_choice", "kv_precision")
_POLICY_NUMBERS = ("novelty_percentile", "recall_share")
_MOST = 10**9  # beyond what any node takes: a number that is too large gets the node's own sentence

PolicyWidgets: TypeAlias = dict[str, str | float | None]


class _Loader(NamedTuple):
    """Widgets of a Load AR Model; None is what only another node knows."""

    model_name: str | None
    family: str | None
    chunk_frames: int | None


def answer(asked: Fields) -> dict[str, Json]:
    """What a run takes, as far as it is known. ValueError for a field of the wrong type."""
    sampler = Fields.of(asked.values["sampler"], "sampler", _SAMPLER, (_STRENGTH, _AUDIO))
    has_video = _STRENGTH in sampler.values
    wanted = SamplerWidgets(
        _number(sampler, "seconds"),
        _number(sampler, "fps"),
        _integer(sampler, "width"),
        _integer(sampler, "height"),
        _text(sampler, "run_name"),
        _one_of(sampler, "on_existing_run", ON_EXISTING),
        asked.choice("beginning", BEGINNINGS),
        _integer(asked, "steps"),
        has_video,
        _number(sampler, _STRENGTH) if has_video else None,
        _AUDIO in sampler.values and sampler.flag(_AUDIO),
    )
    loader, policy = _loader(asked), _policy(asked)
    parts: list[str] = []
    level, sentence, facts = "plain", "", None
    try:
        facts = _facts(loader)
        for part, warning in cost_parts(wanted, facts, _cache_policy(policy)):
            parts.append(part)
            level, sentence = ("warning", warning) if warning else (level, sentence)
    except (ValueError, RuntimeError) as error:  # the node's own sentence; a RuntimeError is of the disk
        level, sentence = "error", str(error)
    size = usual_record(facts).size
    return {
        "line": " | ".join(parts),
        "level": level,
        "sentence": sentence,
        "tooltip": (
            f"Reckoned for {size.name} ({size.layers} layers of {size.heads} heads) in 16 bit, keys and values as the "
            "policy keeps them, with the usual shares of head types. The model itself comes on top, and the VAE where "
            "the video is made meanwhile. The report of a run says what it really takes."
        ),
    }


def _loader(asked: Fields) -> _Loader | None:
    """None where no such node is connected: the sampler takes another loader's model for the usual one."""
    if asked.values["model"] is None:
        return None
    given = Fields.of(asked.values["model"], "model", _MODEL)
    return _Loader(
        _text(given, "model_name"), _one_of(given, "family", (AUTO, *FAMILIES)), _integer(given, "chunk_frames")
    )


def _policy(asked: Fields) -> PolicyWidgets:
    """Empty where no policy is connected."""
    if asked.values["policy"] is None:
        return {}
    if asked.values["policy"] == UNKNOWN:
        return dict.fromkeys(_POLICY)
    given = Fields.of(asked.values["policy"], "policy", _POLICY)
    _one_of(given, "preset", tuple(PRESETS))
    return {
        name: _text(given, name)
        if name in _POLICY_TEXTS
        else _number(given, name)
        if name in _POLICY_NUMBERS
        else _integer(given, name)
        for name in _POLICY
    }


def _facts(loader: _Loader | None) -> ARFacts | None:
    """What is known of the model; None when that depends on another node. ValueError as of facts_for."""
    if loader is None:
        return assumed_facts("")
    name, family, chunk_frames = loader
    if family is None or chunk_frames is None or (name is None and family == AUTO):
        return None
    return facts_for(name or "", family, chunk_frames, "")[0]


def _cache_policy(widgets: PolicyWidgets) -> CachePolicy | None:
    """The policy that the node makes of its widgets; None when that depends on another node. ValueError as the node."""
    if None in widgets.values():
        return None
    made = cast("type[io.ComfyNode]", HeadCachePolicy).execute(**widgets)
    return cast("CachePolicy", cast("io.NodeOutput", made).args[0])


def _number(given: Fields, name: str) -> float | None:
    return None if given.values[name] is None else given.number(name, -_MOST, _MOST)


def _integer(given: Fields, name: str) -> int | None:
    return None if given.values[name] is None else given.integer(name, -_MOST, _MOST)


def _text(given: Fields, name: str) -> str | None:
    return None if given.values[name] is None else given.text(name)


def _one_of(given: Fields, name: str, known: tuple[str, ...]) -> str | None:
    return None if given.values[name] is None else given.choice(name, known)
