"""Windows of the grown world: drawn as the old world draws them, decided by noise as the old world decides."""

from itertools import pairwise

import pytest
import torch

from testbed.batches import FIRST_TRAINING_SEED
from testbed.deciding import decide as decide_one
from testbed.grown.batches import CHUNKS, ScriptSource, make_batch
from testbed.grown.deciding import SLOTS, decide
from testbed.grown.drawing import VERSIONS
from testbed.grown.films import cameras, following, frames_of
from testbed.grown.scripts import training_prompts
from testbed.grown.words import FOLLOWS, GROUNDS, PLACES, THINGS, GrownPrompt, encode, load_words, vocabulary
from testbed.prompts import PLACES as OLD_PLACES
from testbed.prompts import Prompt, Scene
from testbed.world import EVERY_LANDMARK, World

HOME, AWAY = Prompt(sky="dusk"), Prompt(sky="dusk", place="meadow", colour="blue", shape="triangle")


def grown(prompt: Prompt) -> GrownPrompt:
    words = THINGS[prompt.place][0], GROUNDS[prompt.place][0]
    return GrownPrompt(prompt.shape, prompt.colour, prompt.speed, prompt.sky, prompt.place, *words)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("first_level", [1.0, 0.3])
def test_truth_and_noisy_chunks_are_those_of_the_old_world(seed: int, first_level: float) -> None:
    prompts = [HOME, HOME, AWAY, AWAY, HOME, AWAY, HOME]
    sigmas = torch.tensor([[first_level, 0.625, 0.9375, 0.2, 1.0, 1.0, 0.8333]])
    noise = torch.randn(1, 16, 21, 8, 16, generator=torch.Generator().manual_seed(seed))
    made = decide(frames_of([[grown(each) for each in prompts]]), noise, sigmas, torch.Generator().manual_seed(seed))
    again = torch.Generator().manual_seed(seed)
    start = 2 * torch.rand(1, 2, generator=again)
    theirs = torch.Generator().manual_seed(seed)
    torch.rand(1, 2, generator=theirs)  # then it draws the same places for the thing
    torch.rand(1, 64, 2, generator=again)
    torch.rand(1, len(PLACES), SLOTS, generator=again)
    marks = torch.randint(len(EVERY_LANDMARK), (1, len(PLACES), VERSIONS, SLOTS), generator=again)
    landmarks = {
        (place, number - SLOTS // 2): EVERY_LANDMARK[int(marks[0, PLACES.index(place), 0, number])]
        for place in OLD_PLACES
        for number in range(SLOTS)
    }
    script = tuple(Scene(3 * chunk, prompt) for chunk, prompt in enumerate(prompts))
    world = World(0, script, (start[0, 0].item(), start[0, 1].item()), landmarks)
    truth, noisy = decide_one(world, noise[0], sigmas[0].tolist(), theirs)
    assert torch.allclose(made.truth[0], truth, atol=1e-4)
    assert torch.allclose(made.noisy[0], noisy, atol=1e-4)


def test_a_camera_goes_on_where_it_left_a_place_and_a_named_view_begins_where_it_says() -> None:
    right = GrownPrompt(camera="pans right")
    meadow = GrownPrompt(place="meadow", things="cows", ground="grass", camera="pans left")
    assert cameras([right, meadow, right]) == [1, 2, 3, -1, -2, -3, 4, 5, 6]
    west, east = (GrownPrompt(view=view) for view in ("west", "east"))
    pan = GrownPrompt(view="west", camera="pans right")
    assert cameras([pan, pan, east, meadow, west]) == [*range(1, 7), 6, 6, 6, -1, -2, -3, 0, 0, 0]
    assert cameras([east, pan]) == [6, 6, 6, 1, 2, 3]


def test_a_following_camera_goes_where_the_thing_went_before_the_chunk() -> None:
    across = torch.tensor([[5.0, 6, 7, 8, 9, 8, 7, 6, 5, 4, 3, 2]])
    assert following(across).tolist() == [[0, 0, 0, 1, 2, 3, 2, 1, 0, -1, -2, -3]]


def test_no_prompt_names_its_place_and_neighbouring_stays_have_no_word_of_it_in_common() -> None:
    for seed in range(300):
        film = training_prompts(seed, CHUNKS)
        assert not set(PLACES) & set(film[0].text.split())
        last: dict[str, GrownPrompt] = {}
        for before, prompt in pairwise(film):
            last[before.place] = before
            other = last.get(prompt.place)
            if before.place != prompt.place and other is not None:
                assert other.things != prompt.things and other.ground != prompt.ground


def test_a_word_has_a_vector_and_every_prompt_as_many() -> None:
    assert load_words().shape == (len(vocabulary()), 64)
    films = [training_prompts(seed, CHUNKS) for seed in range(50)]
    assert {encode(prompt).shape for film in films for prompt in film} == {(21, 64)}
    words = load_words()
    assert torch.cdist(words, words).fill_diagonal_(99).min() > 5


def test_every_kind_of_film_is_drawn_in_its_share() -> None:
    films = [training_prompts(FIRST_TRAINING_SEED + seed, CHUNKS) for seed in range(600)]
    follows = sum(film[0].camera == FOLLOWS for film in films)
    changes = sum(any(prompt.version for prompt in film) for film in films)
    ends = sum(any(prompt.view != "here" for prompt in film) for film in films)
    assert 60 < follows < 120 and 80 < changes < 150 and 90 < ends < 150


def test_a_changed_place_shows_what_it_last_was_and_nothing_is_learned_from_its_first_sight() -> None:
    home, away = GrownPrompt(), GrownPrompt(place="meadow", things="cows", ground="grass")
    later = GrownPrompt(things="nets", version=1)
    film = [home, away, later, away, later, away, home]
    noise = torch.randn(40, 16, 21, 8, 16, generator=torch.Generator().manual_seed(0))
    made = decide(frames_of([film] * 40), noise, torch.full((40, 7), 0.9), torch.Generator().manual_seed(0)).truth
    lower = made[:, :, :, 4:7].unflatten(4, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(3)  # a slot each
    first, changed, again, before = (lower[:, 3 * chunk] for chunk in (0, 2, 4, 6))
    same = (first - changed).abs().amax(dim=2) < 1e-5
    assert 0.4 < same.float().mean() < 0.65
    assert torch.equal(changed, again) and torch.equal(first, before)
    weights = [ScriptSource(1)[step].weights for step in range(200)]
    assert 5 < sum(float((each == 0).sum()) for each in weights) < 60


def test_the_same_step_gives_the_same_batch_and_another_step_another() -> None:
    device = torch.device("cpu")
    (first, _), (again, _), (other, _) = (make_batch(ScriptSource(2)[step], device) for step in (4, 4, 5))
    assert torch.equal(first.noisy, again.noisy) and torch.equal(first.texts, again.texts)
    assert not torch.equal(first.truth, other.truth)
