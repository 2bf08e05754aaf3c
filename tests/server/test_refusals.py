"""What cannot be used is refused on the node where it was put in, in words that say what, why and what to do."""

import pytest

from devtools.server.tiny_workflow import Workflow
from headforcing_core.farm.process import Server
from tests.server.conftest import Refusal, Rejection
from tests.server.graphs import SIZE, node, sampling

LOAD_ANOTHER = "Load an AR checkpoint on Wan, for example self_forcing_dmd.pt."
EMPTY = ("is empty (0 bytes). ", "Download the file again.")
LORA = (
    "is a LoRA",
    "Choose the base checkpoint as model_name, put this file into models/loras, and choose it as lora.",
)
DAMAGED = ("cannot be read", "Download it again.")
CHECKPOINTS = {  # file: how the message begins after the file's name, and how it ends
    "bad_24_channels.safetensors": ("takes 24 latent channels", LOAD_ANOTHER),
    "bad_empty.pt": EMPTY,
    "bad_empty.safetensors": EMPTY,
    "bad_i2v_36_channels.safetensors": ("is an image-to-video model", LOAD_ANOTHER),
    "bad_lora_only.pt": LORA,
    "bad_lora_only.safetensors": LORA,
    "bad_missing_blocks.safetensors": ("is incomplete", "Download the file again, as one file."),
    "bad_not_wan.safetensors": ("is not a Wan model", LOAD_ANOTHER),
    "bad_pickle_not_tensors.pt": ("holds no tensors", LOAD_ANOTHER),
    "bad_pickle_object.pt": ("cannot be read", "Use the authors' own file, or one converted to safetensors."),
    "bad_text_file.pt": ("", "."),
    "bad_truncated.pt": DAMAGED,
    "bad_truncated.safetensors": DAMAGED,
    "bad_vace.safetensors": ("is a VACE model", LOAD_ANOTHER),
}
UNREADABLE = ["bad_pickle_object.pt", "bad_text_file.pt", "bad_truncated.pt", "bad_truncated.safetensors"]
RIGHT = "[12s] the fox finds a frozen river"
NUMBER = "[12s] a river; or [0.75s], if 12 counts frames at 16 fps"
SCHEDULES = {  # what is wrong: (text, number of the line that is shown, what is said of it, a right line)
    "text before the first scene": ("a red fox\n[6s] a river", 1, "text before the first scene", "[0s] a red fox"),
    "a title": (
        "my film\n[0s] a river",
        1,
        "text before the first scene, which begins at 0",
        "// my film; or put it behind [0s]",
    ),
    "first scene not at 0": ("\n[3s] a red fox", 2, "at 3 s, not at 0", "[0s] a red fox"),
    "unsorted": ("[0s] a red fox\n[12s] a river\n[6s] a city", 3, "starts at 12 s", "[24s] a city"),
    "two at one time": ("[0s] a red fox\n[0:05] a river\n[5s] a city", 3, "starts at 5 s", "[17s] a city"),
    "overlapping ranges": ("[0-12s] a red fox\n[8-20s] a river", 2, "ends at 12 s", "[12s] a river"),
    "gap between ranges": ("[0-12s] a red fox\n[15s] a river", 2, "ends at 12 s", "[12s] a river"),
    "backward range": ("[0s] a red fox\n[12-10s] a river", 2, "ends at 10 s, not after its start", "[12-24s] a river"),
    "not a time": ("[0s] a red fox\n[soon] a river", 2, "[soon], which is not a time", "[12s] a river"),
    "a number alone": ("[0s] a red fox\n[12] a river", 2, "[12], which is not a time", NUMBER),
    "75 seconds in a minute": ("[0s] a red fox\n[0:75] a river", 2, "[0:75], which is not a time", "[12s] a river"),
    "unclosed bracket": (
        "[0s] a red fox\n[12s a river",
        2,
        "opens a scene with [ but never closes it",
        "[12s] a river",
    ),
    "unknown transition": (
        "[0s] a red fox\n[12s fade] a river",
        2,
        "'fade'; known are recache, flush, soft, cut, shot",
        "[12s cut] a river",
    ),
    "no prompt": ("[0s] a red fox\n[12s]\n\n[14s] a river", 2, "has no prompt", "[12s] a red fox in deep snow"),
}
NOT_A_MULTIPLE = "One token covers 16 x 16 pixels, so {0} must be a multiple of 16, up to 4096. Set {0} to {1} or {2}."
SIZES = {  # what is wrong: (the sampler's input, its value, message)
    "odd width": ("width", 130, "width is 130. " + NOT_A_MULTIPLE.format("width", 128, 144)),
    "no width": ("width", 0, "width is 0. " + NOT_A_MULTIPLE.format("width", 16, 32)),
    "negative width": ("width", -16, "width is -16. " + NOT_A_MULTIPLE.format("width", 16, 32)),
    "odd height": ("height", 90, "height is 90. " + NOT_A_MULTIPLE.format("height", 80, 96)),
}
LENGTHS = [("seconds", 0.0), ("seconds", -1.0), ("seconds", "inf"), ("fps", -1.0), ("fps", -16.0), ("fps", "inf")]
BEYOND = {"seconds": 36001.0, "width": 4112, "height": 4112, "fps": 121.0}  # just beyond what the widgets allow
NAMES = ["../fox", "a/fox", "a\\fox", ".fox", "C:fox", "con", "x" * 121]
LAYERS = {"first": "first", "0, 3-1": "3-1", "0;1": "0;1", "-1": "-1"}  # protect_layers: the piece that is shown
POLICIES = {  # what is wrong: (Head Cache Policy's inputs, the node that says so, message)
    "too many frames": (
        {"preset": "paper", "memory_episodes": 12},
        "sampler",
        "memory heads keep 21 frames (sink 3, episodes 12, recent 6) and read them with a chunk of 3: 24 frames, but "
        "the model was trained on 21. Shrink memory_episodes by 3.",
    ),
    "no room for a whole chunk": (
        {"preset": "paper", "memory_episodes": 2},
        "sampler",
        "memory_episodes is 2 frames, but an episode is a whole chunk of 3. None would fit. Set memory_episodes to 3 "
        "or more, or to 0, or set episode to frame.",
    ),
    "everything for longer than trained": (
        {"preset": "full"},
        "sampler",
        "The policy full keeps all 27 frames, but the model was trained on 21. Beyond that only rope = absolute can "
        "place them (as a control; the picture will fall apart). Choose another preset, set rope to absolute, or make "
        "the video shorter.",
    ),
    "compressed too late": (
        {"preset": "uniform", "compress_from_chunk": 9},
        "sampler",
        "compress_from_chunk is 9, but chunk 7 of 3 frames already reads past the 21 frames that the model was trained "
        "on. Use 7 or less, or -1 for as late as possible.",
    ),
    "compressed before there is anything": (
        {"preset": "uniform", "compress_from_chunk": 0},
        "policy",
        "compress_from_chunk is 0. The first chunk has no history to compress. Use 1 or more, or -1 for as late as the "
        "trained range allows.",
    ),
    "episodes where all is kept": (
        {"preset": "full", "episode": "chunk"},
        "policy",
        "The preset full keeps every frame, so there are no tiers, episodes or warm-up to change. One was set. Set "
        "those widgets back, or choose another preset.",
    ),
    "sizes where all is kept": (
        {"preset": "full", "memory_recent": 3},
        "policy",
        "The preset full keeps every frame, so there are no tiers, episodes or warm-up to change. One was set. Set "
        "those widgets back, or choose another preset.",
    ),
}


def test_every_bad_checkpoint_is_among_these(comfyui: Server) -> None:
    found = (comfyui.folder / "models" / "diffusion_models").glob("bad_*")
    assert {path.name for path in found} == set(CHECKPOINTS)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used_is_refused_on_load_ar_model(refusal: Refusal, name: str) -> None:
    begin, end = CHECKPOINTS[name]
    message = refusal(loading(name), "model")
    assert message.startswith(f"{name} {begin}") and message.endswith(end)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_explained_in_plain_words(refusal: Refusal, name: str) -> None:
    message = refusal(loading(name), "model")
    assert message.isascii() and message.isprintable() and ". ." not in message and len(message) < 300
    assert "weights_only" not in message and "can still be loaded" not in message  # torch's ways to load it unsafely


def test_a_text_in_place_of_a_checkpoint_is_not_taken_for_code(refusal: Refusal) -> None:
    assert "need code" not in refusal(loading("bad_text_file.pt"), "model")


@pytest.mark.parametrize("case", SCHEDULES)
def test_a_schedule_that_cannot_be_read_is_rejected_with_its_line_and_a_right_one(
    rejection: Rejection, case: str
) -> None:
    text, number, wrong, right = SCHEDULES[case]
    errors = rejection(sampling(text), "schedule")
    assert list(errors) == ["text"]
    message = errors["text"]
    assert message.startswith(f"Schedule line {number} ") and wrong in message
    assert repr(text.splitlines()[number - 1]) in message and message.endswith(f"Write it like: {right}")


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_schedule_is_rejected_with_a_right_one(rejection: Rejection, text: str) -> None:
    message = rejection(sampling(text), "schedule")["text"]
    assert message.startswith("The schedule is empty. ") and message.endswith(RIGHT)


def test_a_long_line_of_a_schedule_is_shown_in_part(rejection: Rejection) -> None:
    message = rejection(sampling("[0s] a red fox\n[soon] " + 400 * "very "), "schedule")["text"]
    assert "'[soon] very very " in message and "...'" in message and len(message) < 300


def test_two_scenes_on_one_chunk_are_refused_by_the_sampler_who_knows_the_chunks(refusal: Refusal) -> None:
    message = refusal(sampling("[0s] a red fox\n[0.2s] a river", seconds=3.0), "sampler")
    assert "ine 2: the scenes at 0 s and 0.2 s both begin on chunk 0 (0.00 s)." in message
    assert message.endswith("Put them at least 0.75 s apart.")


@pytest.mark.parametrize("case", SIZES)
def test_a_size_that_makes_no_video_is_rejected(rejection: Rejection, case: str) -> None:
    name, value, message = SIZES[case]
    assert rejection(sampling(**{name: value}), "sampler")[name] == message


@pytest.mark.parametrize("name", BEYOND)
def test_a_number_beyond_what_its_widget_allows_is_rejected(rejection: Rejection, name: str) -> None:
    assert name in rejection(sampling(**{name: BEYOND[name]}), "sampler")


@pytest.mark.parametrize("name, value", LENGTHS)
def test_a_length_that_makes_no_video_is_rejected(rejection: Rejection, name: str, value: float | str) -> None:
    assert name in rejection(sampling(**{name: value}), "sampler")


def test_a_length_from_another_node_is_held_to_the_same_bounds(refusal: Refusal) -> None:
    workflow = sampling(seconds=["days", 0])
    workflow["days"] = node("PrimitiveFloat", value=1e6)
    assert "seconds is 1000000.0" in refusal(workflow, "sampler")


def test_no_length_is_refused_without_a_sound_that_gives_it(rejection: Rejection, refusal: Refusal) -> None:
    message = rejection(sampling(seconds=0.0), "sampler")["seconds"]
    assert message == (
        "seconds is 0.0. A video needs seconds above 0, unless audio is connected: then 0 is as long as that. Connect "
        "audio, or set seconds, for example to 20."
    )
    workflow = sampling(seconds=["none", 0])
    workflow["none"] = node("PrimitiveFloat", value=0.0)
    assert refusal(workflow, "sampler") == message


@pytest.mark.parametrize("name", ["width", "seconds"])
def test_a_word_in_place_of_a_number_is_rejected_as_such(rejection: Rejection, name: str) -> None:
    assert "Failed to convert an input value" in rejection(sampling(**{name: "wide"}), "sampler")[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_name_that_is_no_file_name_is_rejected(rejection: Rejection, name: str) -> None:
    assert rejection(profiling(save_as=name), "profile")["save_as"].startswith(
        f"save_as is {name[:120]!r}. It becomes a file name and must stay in its folder. Use "
    )


@pytest.mark.parametrize("text", LAYERS)
def test_protected_layers_that_are_no_numbers_are_rejected(rejection: Rejection, text: str) -> None:
    assert rejection(profiling(protect_layers=text), "profile")["protect_layers"] == (
        f"protect_layers holds {LAYERS[text]!r}. It is a list of layer numbers. Write it like 0, 3, 5-7."
    )


@pytest.mark.parametrize("name, value", [("anchor_fraction", 1.5), ("local_fraction", -0.1), ("sink_frames", -1)])
def test_a_number_that_profile_heads_cannot_use_is_rejected(rejection: Rejection, name: str, value: float) -> None:
    assert list(rejection(profiling(**{name: value}), "profile")) == [name]


def test_a_protected_layer_that_the_model_lacks_is_refused(refusal: Refusal) -> None:
    assert refusal(profiling(protect_layers="2-9"), "profile") == (
        "protect_layers names layer 4. The model has layers 0 to 3. Remove it."
    )


def test_a_rule_that_measures_without_prompts_is_refused(refusal: Refusal) -> None:
    message = refusal(profiling(rule="head_forcing", reuse_saved=False), "profile")
    assert message.startswith("schedule is not connected. The rule head_forcing measures heads on a video, ")
    assert message.endswith("Connect a Prompt Schedule, or use the rule random or all_memory.")


def test_a_run_without_prompts_is_refused(refusal: Refusal) -> None:
    assert refusal(sampling(schedule=None), "sampler") == (
        "Neither schedule nor positive is connected. The video is made under one of them. Connect exactly one: Prompt "
        "Schedule, or a CLIP Text Encode for one prompt."
    )


def test_a_run_with_prompts_from_two_sides_is_refused(refusal: Refusal) -> None:
    workflow = sampling(positive=["positive", 0])
    workflow["positive"] = node("CLIPTextEncode", clip=["clip", 0], text="a city at night")
    assert refusal(workflow, "sampler") == (
        "Both schedule and positive are connected. The video is made under one of them. Connect exactly one: Prompt "
        "Schedule, or a CLIP Text Encode for one prompt."
    )


@pytest.mark.parametrize("case", POLICIES)
def test_a_policy_that_does_not_fit_is_refused_with_what_to_change(refusal: Refusal, case: str) -> None:
    inputs, node_id, message = POLICIES[case]
    workflow = sampling(seconds=6.0)
    workflow["policy"]["inputs"] = dict(inputs)
    assert refusal(workflow, node_id) == message


def test_a_tier_that_would_lose_the_last_frame_is_refused_by_its_widgets_name(refusal: Refusal) -> None:
    workflow = sampling()
    workflow["policy"]["inputs"]["local_recent"] = 0
    assert "local_recent is 0" in refusal(workflow, "policy")


def loading(name: str) -> Workflow:
    """Load AR Model on one file."""
    return {"model": node("HeadForcingLoadARModel", model_name=name), "report": node("PreviewAny", source=["model", 1])}


def profiling(**inputs: object) -> Workflow:
    """Profile Heads without measuring, unless `inputs` say so."""
    workflow = loading("self_forcing_dmd.safetensors")
    given = {"model": ["model", 0], "rule": "random", **SIZE, **inputs}
    return {
        **workflow,
        "profile": node("HeadForcingProfileHeads", **given),
        "report": node("PreviewAny", source=["profile", 2]),
    }
