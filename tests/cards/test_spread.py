"""The sampler on two cards: the same film as on one, kept, resumed, interrupted; a card that is lost; nothing left
behind. Two processes on the processor stand for the cards."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import psutil
import pytest
import torch

from tests.host.conftest import Pack, clip, labelled, model, runs, vae, video

__all__ = ["clip", "labelled", "model", "runs", "vae", "video"]
NODE, SECONDS, CHUNKS = "7", 2.7, 4
SOON = 5.0  # a lost card ends the run within


class At:
    """Does something, once, when the page hears of a step: by (chunk, step)."""

    def __init__(self) -> None:
        self.todo: dict[tuple[int, int], Callable[[], object]] = {}
        self.moment = 0.0  # when it was done


@pytest.fixture
def at(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> At:
    at, progress = At(), pack.module("nodes.status.progress").StepProgress
    original = progress.step

    def step(self, chunk: int, number: int, x0: torch.Tensor) -> None:
        todo = at.todo.pop((chunk, number), None)
        if todo is not None:
            at.moment = time.monotonic()
            todo()
        original(self, chunk, number, x0)

    monkeypatch.setattr(progress, "step", step)
    return at


class Spread:
    """Spread over Cards as the host has it in a workflow: its output, until an input is another. Ray stays to the end,
    though processes come and go."""

    def __init__(self, pack: Pack) -> None:
        self.before, self.shared_memory = processes(), set(Path("/dev/shm").iterdir())
        self.pack = pack
        self.inputs: dict[str, object] = {}
        self.output: Any = None
        self.ray = pack.module("nodes.cards.local_ray").SHARED_RAY
        self.ray.enter("local")
        self.is_open = True

    def __call__(self, **inputs: object) -> Any:
        if self.output is None or self.inputs != inputs:
            self.inputs, self.output = inputs, self.pack.run("HeadForcingCards", **{"cards": 2, **inputs})[0]
            gc.collect()  # the host drops an output once the next one is there
        return self.output

    def close(self) -> None:
        if self.is_open:
            self.output, self.is_open = None, False
            gc.collect()
            self.ray.leave()


@pytest.fixture(scope="module")
def spread(pack: Pack) -> Iterator[Spread]:
    """The node."""
    spread = Spread(pack)
    yield spread
    spread.close()


@pytest.fixture
def cards(spread: Spread) -> Any:
    """Two cards that make the same bits as one."""
    return spread(exact=True)


@pytest.fixture(scope="module")
def make(pack: Pack, model, labelled, clip) -> Callable[..., tuple]:
    """Make a short film of two scenes; what the sampler gives."""
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text="[0s] a red fox\n[0:01 cut] a city at night")[0]
    policy = pack.run("HeadForcingCachePolicy", preset="paper")[0]
    given = {"model": model, "profile": labelled, "policy": policy, "schedule": schedule, "width": 128, "height": 96}

    def run(**inputs: object) -> tuple:
        return pack.run("HeadForcingSampler", unique_id=NODE, **{**given, "seconds": SECONDS, "seed": 3, **inputs})

    return run


def samples(made: tuple) -> torch.Tensor:
    return made[0]["samples"]


@pytest.fixture(scope="module")
def alone(make) -> torch.Tensor:
    """The film by one card."""
    return samples(make())


def chunk_files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("chunk_*.safetensors"))]


def pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in film.decode(video=0)]


def listening(pids: set[int]) -> set[str]:
    """Addresses that processes listen at, as /proc/net has them."""
    found = set()
    for table in ("tcp", "tcp6"):
        lines = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        inodes = {line[9]: line[1].rpartition(":")[0] for line in lines if line[3] == "0A"}
        for pid in pids:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                name = os.readlink(descriptor) if descriptor.is_symlink() else ""
                if name.startswith("socket:[") and name[8:-1] in inodes:
                    found.add(inodes[name[8:-1]])
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def processes() -> set[psutil.Process]:
    return {each for each in psutil.Process().children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE}


def until_gone(found: Callable[[], object], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while found() and time.monotonic() < ends:
        time.sleep(0.1)
    assert not found()


def test_two_cards_make_the_same_bits_as_one(cards, make, alone, vae, runs: Path) -> None:
    one = make(run_name="one", vae=vae)
    two = make(run_name="two", vae=vae, cards=cards)
    assert torch.equal(samples(one), alone) and torch.equal(samples(two), alone)
    assert [psutil.Process(pid).nice() for pid in cards.pids] == 2 * [psutil.Process().nice()]
    assert chunk_files(runs / "two") == chunk_files(runs / "one") and len(chunk_files(runs / "two")) == CHUNKS
    assert (runs / "two/strip.jsonl").read_bytes() == (runs / "one/strip.jsonl").read_bytes()
    assert pictures(runs / "two/video.mp4") == pictures(runs / "one/video.mp4")
    reports = [json.loads(each[3]) for each in (one, two)]
    for name in ("settings", "segments", "profile", "attention"):
        assert reports[0][name] == reports[1][name]
    seen = [[(chunk["seen"], chunk["decision"], chunk["kv_bytes"]) for chunk in each["chunks"]] for each in reports]
    assert seen[0] == seen[1]
    notes = " ".join(reports[1]["notes"])
    assert "Memory on each of 2 cards: up to " in notes and " on card 1, " in notes
    assert "Made on 2 cards, by the arithmetic of one card. Keys and values took " in notes
    assert listening({os.getpid(), *(each.pid for each in processes())}) <= LOOPBACK


def test_without_exact_the_same_processes_make_the_same_film_but_for_last_bits(spread, make, alone) -> None:
    pids = spread(exact=True).pids
    made = make(cards=spread())
    assert spread.output.pids == pids != ()
    assert float((samples(made) - alone).abs().max()) <= 1e-5
    assert "each with its share of the picture" in made[3]


def test_a_live_prompt_reaches_all_cards(pack, cards, make, at: At) -> None:
    live = pack.module("nodes.run.live_mailbox")
    made = []
    for spread in (None, cards):
        at.todo[2, 1] = lambda: live.mailbox_of(NODE).put("the fox finds a river", "cut")
        made.append(make(cards=spread))
    assert torch.equal(samples(made[0]), samples(made[1]))
    segments = json.loads(made[1][3])["segments"]
    assert [(each["chunks"], each["live"]) for each in segments][-1] == ([3, 3], True)


def test_a_run_goes_on_with_any_number_of_cards(cards, make, alone, at: At, runs: Path) -> None:
    import comfy.model_management as management

    pids = cards.pids
    for chunk, spread in ((1, cards), (3, None)):
        at.todo[chunk, 1] = lambda: management.interrupt_current_processing(True)
        with pytest.raises(management.InterruptProcessingException):
            make(run_name="film", cards=spread)
        assert time.monotonic() - at.moment < SOON
        assert len(chunk_files(runs / "film")) == chunk
    assert torch.equal(samples(make(run_name="film", cards=cards)), alone)
    taken = make(run_name="film", from_chunk=2, seed=9, cards=cards)
    assert not torch.equal(samples(taken), alone)
    assert torch.equal(samples(taken), samples(make(run_name="film", from_chunk=3, seed=9)))
    assert cards.pids == pids


def test_what_an_interrupted_run_said_last_is_not_heard_by_the_next(cards, make, alone, at: At, runs: Path) -> None:
    """Nobody listens any more when the chunk is done, as when it is committed for long."""
    import comfy.model_management as management

    def stop() -> None:
        for rank in range(2):
            on_rank(cards, rank, _late)
        management.interrupt_current_processing(True)

    for chunk in (1, CHUNKS - 1):
        at.todo[chunk, 3] = stop
        with pytest.raises(management.InterruptProcessingException):
            make(run_name="film", cards=cards)
        assert len(chunk_files(runs / "film")) == chunk
    assert torch.equal(samples(make(run_name="film", cards=cards)), alone)


def _late(process: Any) -> None:
    rank, told = process._rank, process._rank._told

    def tell(chunk: Any) -> Any:
        del rank._told
        time.sleep(0.8)  # longer than a rank waits for something to say
        return told(chunk)

    rank._told = tell


def test_a_killed_card_costs_the_chunk_that_was_made(cards, make, alone, at: At, runs: Path) -> None:
    at.todo[2, 1] = lambda: os.kill(cards.pids[1], signal.SIGKILL)
    told = r"Card 2 of 2 was lost in chunk 3 of 4\. Its process ended.* 2 chunks are safe: press Run again"
    with pytest.raises(RuntimeError, match=told):
        make(run_name="film", cards=cards)
    assert time.monotonic() - at.moment < SOON
    assert cards.pids == () and len(chunk_files(runs / "film")) == 2
    assert torch.equal(samples(make(run_name="film", cards=cards)), alone)


def test_ray_that_somebody_has_ended_costs_the_chunk_that_was_made(cards, make, alone, at: At, runs: Path) -> None:
    """Nor does it end ComfyUI, which Ray does a minute later, or as soon as it is given something."""

    def end_ray() -> None:
        for each in psutil.Process().children():
            if each.name() in ("raylet", "gcs_server"):
                each.kill()

    at.todo[2, 1] = end_ray
    told = r"^(Card . of 2 was lost in chunk 3 of 4\. )?\w+ process.* ended.* 2 chunks are safe: press Run again"
    with pytest.raises(RuntimeError, match=told):
        make(run_name="film", cards=cards)
    assert cards.pids == ()
    assert torch.equal(samples(make(run_name="film", cards=cards)), alone)


def test_a_card_out_of_memory_is_told_of_as_on_one_card(cards, make) -> None:
    """The memory of another process is limited, as a card's is, to less than it needs."""
    make(cards=cards)
    on_rank(cards, 1, _limit_memory)
    told = r"Card 2 of 2 was lost in chunk 1 of 4\. Nothing is kept .* Out of memory\. At 512 x 384 the memory of "
    began = time.monotonic()
    with pytest.raises(torch.OutOfMemoryError, match=told):
        make(cards=cards, width=512, height=384)
    assert time.monotonic() - began < 30 and cards.pids == ()


def on_rank(group: Any, rank: int, work: Callable[[object], object]) -> object:
    """What something gives in the process of a rank."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return ray.get(group._actors._actors[rank].__ray_call__.remote(work))


def _limit_memory(process: object) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 2**22
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def test_a_card_that_hangs_is_given_up_and_the_next_run_goes_on(pack, make, alone, at: At, runs: Path) -> None:
    group = pack.module("nodes.cards.card_group")
    cards = group.CardGroup(2, True, patience=group.Patience(word=2.0, times=1.0, orphan=0.0))
    at.todo[1, 1] = lambda: os.kill(cards.pids[0], signal.SIGSTOP)
    with pytest.raises(
        RuntimeError, match=r"No card has said a word for .* s, .* hangs\. 1 chunks are safe: press Run"
    ):
        make(run_name="film", cards=cards)
    assert cards.pids == ()
    assert torch.equal(samples(make(run_name="film")), alone)


@pytest.mark.parametrize("way", ["unloaded", "dropped"])
def test_cards_are_let_go(pack, spread, model, way: str) -> None:
    """When ComfyUI unloads its models, as for /free; when the node's output is dropped."""
    import comfy.model_management as management

    group = pack.module("nodes.cards.card_group")
    recipe = pack.module("nodes.cards.model_recipe").recipe_of(model)
    one = group.CardGroup(1, True, patience=group.Patience(orphan=0.1))
    with one.at_work():
        assert len(one.load(recipe)) == 1
        management.unload_all_models()  # as the host does for a VAE: the card is at work, and stays
        (pid,) = one.pids
    if way == "unloaded":
        management.unload_all_models()
        assert one.pids == ()
    if way == "dropped":
        del one
        gc.collect()
    until_gone(lambda: psutil.pid_exists(pid))


@pytest.fixture
def one_card(pack: Pack) -> Any:
    return pack.run("HeadForcingCards", cards=1, exact=True)[0]


def test_one_card_is_as_without_the_node(one_card, make, alone) -> None:
    assert torch.equal(samples(make(cards=one_card)), alone) and one_card.pids == ()


@pytest.mark.parametrize(
    "cards, inputs, told",
    [
        (4, {}, r"cards is 4, and the model has 3 attention heads a layer.* Set cards to 3 or less\."),
        (2, {"noise": "native"}, r"noise is native, .* Set noise to per_chunk\."),
        (2, {"model": "patched"}, r"The model carries the patch attn1_patch\. .* Take that node out\."),
        (2, {"model": "unknown"}, r"The model was loaded in a way that .* Connect Load AR Model"),
    ],
)
def test_what_cannot_be_spread_is_refused_before_anything_begins(
    pack, model, make, runs: Path, cards: int, inputs: dict[str, Any], told: str
) -> None:
    if "model" in inputs:
        other = model.clone()
        if inputs["model"] == "patched":
            other.set_model_attn1_patch(lambda arguments: arguments["x"])
        else:
            other.cached_patcher_init = None
        inputs = {"model": other}
    group = pack.run("HeadForcingCards", cards=cards)[0]
    with pytest.raises(ValueError, match=told):
        make(cards=group, run_name="" if "noise" in inputs else "film", **inputs)
    assert group.pids == () and not runs.exists()


def test_without_ray_the_node_says_how_to_get_it_and_all_else_works(
    pack, make, alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python has it where an import is blocked
    told = r"^Ray is not installed\. .* pip install \"ray>=2\.59,<3\"$"
    with pytest.raises(RuntimeError, match=told):
        pack.run("HeadForcingCards", cards=2)
    assert torch.equal(samples(make(cards=pack.run("HeadForcingCards", cards=1)[0])), alone)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(RuntimeError, match="This system is win32, where cards cannot exchange tensors"):
        pack.run("HeadForcingCards", cards=2)


def test_cards_that_wait_more_than_they_win_and_a_chunk_that_stalled_are_told_of(pack: Pack) -> None:
    told, pace = pack.module("nodes.run.chunk_makers").told_of_pace, pack.module("nodes.cards.rank_talk").Pace
    waiting = [pace(0, 9.0, 9.0), *(pace(chunk, 1.0, 0.6) for chunk in range(1, 4))]
    (note,) = told(waiting, 2)
    assert note.startswith("The cards waited 60% of the time for each other, so one card alone would hardly be slower.")
    assert told(waiting, 3) == [] and told(waiting[:1], 2) == [] and told([], 2) == []
    rebuilt = [pace(0, 0.0, 0.0), pace(1, 9.0, 9.0)]
    assert told([*rebuilt, *(pace(chunk, 1.0, 0.5) for chunk in range(2, 5))], 2) == []
    (note,) = told([pace(chunk, 4.0 if chunk == 4 else 1.0, 0.1) for chunk in range(7)], 2)
    assert note.startswith("Chunk 4 took 4.0 s, where 1.0 s is usual: ")


HOLDER = """
import importlib, pathlib, sys, time, types
for room in ("pack", "pack.nodes", "pack.nodes.cards"):
    sys.modules[room] = types.ModuleType(room)
    sys.modules[room].__path__ = [str(pathlib.Path(sys.argv[1], *room.split(".")[1:]))]
module = importlib.import_module("pack.nodes.cards.local_ray")
ray = module.LocalRay("local")
print(ray.folder, flush=True)
time.sleep(600)
"""


def test_what_a_killed_comfyui_left_is_removed_and_nothing_else(pack: Pack, tmp_path: Path) -> None:
    local_ray, left = pack.module("nodes.cards.local_ray"), pack.module("headforcing_core.ray_needed")
    root = Path(local_ray.__file__).parents[2]
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    folder = Path(holder.stdout.readline().strip())
    left.remove_left_behind()
    assert (folder / "ray").is_dir() and folder.stat().st_mode & 0o077 == 0  # its process lives
    servers = psutil.Process(holder.pid).children()
    holder.kill()
    holder.wait()
    until_gone(lambda: [each for each in servers if each.is_running() and each.status() != psutil.STATUS_ZOMBIE])
    left.remove_left_behind()
    assert not folder.exists()


def test_nothing_is_left_behind(spread) -> None:
    before = spread.before
    spread.close()
    until_gone(lambda: processes() - before)
    assert not list(Path("/tmp").glob(f"headforcing-{os.getpid()}-*"))
    assert set(Path("/dev/shm").iterdir()) <= spread.shared_memory
