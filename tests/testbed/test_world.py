"""Facts about the world, and about what its latents keep of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from testbed.latents import load_basis, world_latent
from testbed.prompts import PLACES, Prompt, Scene, every_prompt, prompt_at, training_script
from testbed.world import HEIGHT, PAN_PIXELS, RGB, SLOT, WIDTH, World, first_picture, frame_of, last_picture

LEFT, RIGHT, STILL = (Prompt(camera=camera) for camera in ("pans left", "pans right", "holds still"))


def away_and_back(frames: int) -> World:
    """The camera goes right for so many frames, and back again."""
    return World(7, (Scene(0, RIGHT), Scene(1 + frames, LEFT), Scene(1 + 2 * frames, STILL)))


def test_the_same_seed_gives_the_same_picture_in_any_order() -> None:
    script = training_script(3, 3)
    forwards = [World(3, script).picture(picture) for picture in (0, 5, 40)]
    backwards = [World(3, script).picture(picture) for picture in (40, 5, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert not np.array_equal(forwards[0], World(4, script).picture(0))


def test_pictures_and_frames_belong_together() -> None:
    assert [frame_of(picture) for picture in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert all(
        frame_of(first_picture(frame)) == frame_of(last_picture(frame)) == frame
        and last_picture(frame) + 1 == first_picture(frame + 1)
        for frame in range(9)
    )


@pytest.mark.parametrize(("prompt", "moved"), [(LEFT, -PAN_PIXELS), (RIGHT, PAN_PIXELS), (STILL, 0)])
def test_the_camera_moves_only_as_the_prompt_says(prompt: Prompt, moved: int) -> None:
    world = World(0, (Scene(0, prompt),))
    assert [world.camera(picture) for picture in range(4)] == [0, moved, 2 * moved, 3 * moved]


@pytest.mark.parametrize("frames", [10, 21, 42, 84])
def test_a_landmark_comes_back_at_its_place_after_any_absence(frames: int) -> None:
    world = away_and_back(frames)
    away, back = last_picture(frames), last_picture(2 * frames)
    assert world.camera(away) == frames * 4 * PAN_PIXELS and world.camera(back) == world.camera(0) == 0
    assert not set(world.slots(0)) & set(world.slots(away))
    landmarks = slice(HEIGHT // 2, HEIGHT)
    assert np.array_equal(world.picture(0)[landmarks], world.picture(back)[landmarks])


def test_a_landmark_is_seen_in_its_colour_in_the_middle_of_its_slot() -> None:
    world = World(11, (Scene(0, LEFT),))
    for picture in (0, 30, 401):
        for slot in world.slots(picture):
            column = world.left_of(slot, picture) + SLOT // 2
            if 0 <= column < WIDTH:
                seen = 255 * world.picture(picture)[HEIGHT - 12, column]
                assert np.allclose(seen, RGB[world.landmark(slot)[1]], atol=1)


def test_the_thing_stays_in_view_and_keeps_moving_at_its_speed() -> None:
    for speed, pixels in (("slow", 1.0), ("fast", 2.0)):
        world = World(5, (Scene(0, replace(RIGHT, speed=speed)),))
        ways = [world.thing(picture) for picture in range(300)]
        assert all(8 <= x <= WIDTH - 8 and 9 <= y <= HEIGHT / 2 - 9 for x, y in ways)
        steps = np.abs(np.diff([x for x, _ in ways]))
        assert np.median(steps) == pytest.approx(pixels) and steps.max() <= pixels + 1e-9


def test_who_returns_to_a_place_finds_it_as_it_was_left() -> None:
    elsewhere = replace(RIGHT, place="desert")
    world = World(
        4, (Scene(0, RIGHT), Scene(5, elsewhere), Scene(11, STILL), Scene(14, replace(elsewhere, speed="slow")))
    )
    left, there, back, again = (last_picture(frame) for frame in (4, 10, 11, 14))
    landscape = slice(HEIGHT // 2, HEIGHT)
    assert np.array_equal(world.picture(left)[landscape], world.picture(back)[landscape])
    assert np.allclose(255 * world.picture(there)[-1, 0], RGB["desert"], atol=1)
    assert world.camera(again) == world.camera(there) + 4 * PAN_PIXELS
    assert not set(world.slots(there)) & set(world.slots(back)) and set(world.slots(there)) & set(world.slots(again))
    ways = [world.thing(picture)[0] for picture in range(last_picture(14))]
    assert np.abs(np.diff(ways)).max() <= 1 + 1e-9  # the thing knows nothing of places
    landscapes = {tuple(world.landmark((place, number)) for number in range(30)) for place in PLACES}
    assert len(landscapes) == 3


def test_a_prompt_change_changes_what_it_names_from_its_frame_on_and_nothing_else() -> None:
    night = replace(STILL, sky="night", colour="yellow")
    before, after = World(2, (Scene(0, STILL),)), World(2, (Scene(0, STILL), Scene(6, night)))
    last, first = last_picture(5), first_picture(6)
    assert np.array_equal(before.picture(last), after.picture(last))
    assert after.thing(first) == before.thing(first) and after.camera(first) == 0
    x, y = map(int, after.thing(first))
    assert np.allclose(255 * after.picture(first)[y, x], RGB["yellow"], atol=1)
    assert np.allclose(255 * after.picture(first)[0, 0], RGB["night"], atol=1)


def test_speed_changes_leave_no_jump() -> None:
    fast = World(2, (Scene(0, STILL), Scene(6, replace(STILL, speed="fast"))))
    last = last_picture(5)
    assert abs(fast.thing(last + 1)[0] - fast.thing(last)[0]) <= 2


def test_prompts_are_all_different_and_a_wrong_word_is_told() -> None:
    texts = [prompt.text for prompt in every_prompt()]
    assert len(set(texts)) == len(texts) == 1296
    with pytest.raises(ValueError, match="purple"):
        Prompt(colour="orange")


def test_training_scripts_often_turn_back_within_the_window() -> None:
    def turns(seed: int) -> bool:
        script = training_script(seed, 3)
        cameras = [prompt_at(script, frame).camera for frame in range(0, 21, 3)]
        return {"pans left", "pans right"} <= set(cameras)

    assert sum(map(turns, range(200))) > 100


def test_training_scripts_often_return_to_a_place_within_the_window() -> None:
    def returns(seed: int) -> bool:
        places = [prompt_at(training_script(seed, 3), frame).place for frame in range(0, 21, 3)]
        return any(places[i] != places[i - 1] and places[i] in places[: i - 1] for i in range(2, 7))

    assert 60 < sum(map(returns, range(200))) < 140


def test_a_latent_of_the_still_landscape_is_the_same_numbers_one_token_further() -> None:
    world, basis = World(9, (Scene(0, RIGHT),)), load_basis()
    latent = world_latent(world, range(4), basis)[:, :, 4:]
    assert torch.allclose(latent[:, 1, :, :-2], latent[:, 0, :, 2:], atol=1e-5)


def test_latents_are_scaled_for_noise_of_one_and_keep_the_picture() -> None:
    basis, latents, errors = load_basis(), [], []
    for seed in range(20):
        world = World(seed, training_script(seed, 3))
        latents.append(world_latent(world, range(0, 21, 5), basis))
        truth = torch.from_numpy(np.stack([world.picture(last_picture(frame)) for frame in range(0, 21, 5)]))
        errors.append((basis.pictures(latents[-1]) - truth).square().mean().item())
    assert 0.7 < torch.stack(latents).square().mean().item() < 1.3
    assert np.mean(errors) < 0.0015  # 28 decibels
