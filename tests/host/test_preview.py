"""The moving preview: which pictures, how fast, until when."""

import functools
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from tests.host.conftest import companions, load_vae


@pytest.fixture(scope="module")
def preview(pack):
    return pack.module("nodes.status.preview")


def wait_for(seen: list, count: int) -> None:
    end = time.monotonic() + 10
    while len(seen) < count and time.monotonic() < end:
        time.sleep(0.002)
    assert len(seen) >= count


def test_pictures_are_shown_in_turn_until_others_come_and_none_after_the_end(preview) -> None:
    seen: list[str] = []
    book = preview.Flipbook(seen.append)
    book.turn_to(["a", "b", "c"], 0.002)
    wait_for(seen, 8)
    assert seen[:8] == ["a", "b", "c", "a", "b", "c", "a", "b"]
    book.turn_to(["d"], 0.002)
    wait_for(seen, seen.index("d") + 1 if "d" in seen else len(seen) + 1)
    book.close()
    shown = len(seen)
    time.sleep(0.05)
    assert len(seen) == shown and seen.count("d") == 1  # one picture does not move


def test_a_picture_that_cannot_be_shown_ends_the_preview_and_nothing_else(
    preview, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    unhandled: list[object] = []

    def show(picture: str) -> None:
        seen.append(picture)
        raise RuntimeError("Event loop is closed")

    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    book = preview.Flipbook(show)
    book.turn_to(["a", "b"], 0.002)
    wait_for(seen, 1)
    book.turn_to(["c"], 0.002)
    book.close()
    assert seen == ["a"] and unhandled == [] and caplog.text.count("one could not be shown") == 1


def test_closing_what_got_no_thread_is_no_error(preview, monkeypatch: pytest.MonkeyPatch) -> None:
    book = preview.Flipbook(print)
    with monkeypatch.context() as patch:

        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            book.turn_to(["a"], 0.002)
    book.close()


def test_closing_what_never_showed_is_no_error(preview) -> None:
    preview.Flipbook(print).close()


@pytest.mark.parametrize(
    ("fps", "count", "seconds"), [(16.0, 6, 1 / 8), (8.0, 12, 1 / 8), (24.0, 4, 1 / 8), (5.0, 12, 0.2)]
)
def test_decoded_pictures_move_at_the_speed_of_the_video(preview, fps: float, count: int, seconds: float) -> None:
    pictures, each = preview.flipped_pictures(torch.rand(12, 48, 64, 3), fps)
    assert (len(pictures), each) == (count, pytest.approx(seconds))
    assert each >= 1 / preview.MOST_A_SECOND


def test_decoded_pictures_are_made_small_and_keep_their_colours(preview) -> None:
    colour = torch.tensor([1.0, 0.5, 0.0])
    (picture,), _ = preview.flipped_pictures(colour.expand(1, 480, 832, 3), 16.0)
    assert picture.size == (384, 221) and picture.getpixel((100, 100)) == (255, 127, 0)
    (small,), _ = preview.flipped_pictures(colour.expand(1, 96, 128, 3), 16.0)
    assert small.size == (128, 96)


def test_without_a_decoder_every_frame_gives_a_picture_a_quarter_second_long(preview) -> None:
    seen = []

    def draw(frame: torch.Tensor) -> Image.Image:
        seen.append(frame.shape)
        return Image.new("RGB", (2, 2))

    pictures, each = preview.flipped_frames(torch.zeros(1, 16, 3, 6, 8), draw, 16.0)
    assert len(pictures) == 3 and each == 0.25 and seen == [(1, 16, 1, 6, 8)] * 3


@pytest.fixture(params=["self_forcing_dmd.safetensors", "longlive2_5b_bf16.pt"])
def drawn(preview, load, request, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple]:
    """The host's preview method -> a model's latent space, a frame of its latent, and the picture of it."""
    import comfy.cli_args
    from latent_preview import LatentPreviewMethod

    model = load(request.param)

    def draw(method: str) -> tuple:
        monkeypatch.setattr(comfy.cli_args.args, "preview_method", LatentPreviewMethod.from_string(method))
        channels = model.model.latent_format.latent_channels
        frame = torch.randn(1, channels, 1, 3, 5, generator=torch.Generator().manual_seed(3))
        (picture,), _ = preview.flipped_frames(frame, preview.frame_previewer(model).decode_latent_to_preview, 16.0)
        return model.model.latent_format, frame, picture

    return draw


def test_without_a_small_decoder_a_frame_is_drawn_by_the_colours_of_its_latent_space(drawn) -> None:
    space, frame, picture = drawn("latent2rgb")
    colours = frame[0, :, 0].movedim(0, -1) @ torch.tensor(space.latent_rgb_factors)
    colours = colours + torch.tensor(space.latent_rgb_factors_bias)
    expected = ((colours + 1) / 2).clamp(0, 1).mul(255).byte()
    assert picture.size == (5, 3) and torch.equal(_bytes(picture), expected)


def test_with_the_small_decoder_of_its_latent_space_a_frame_is_a_picture(
    drawn, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    folders = dict(folder_paths.folder_names_and_paths, vae_approx=([str(tmp_path)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", folders)
    for channels in (16, 48):
        companions().write_small_vae(tmp_path, channels)
    space, frame, picture = drawn("taesd")
    small = load_vae(tmp_path / f"{space.taesd_decoder_name}.safetensors")
    with torch.inference_mode():
        expected = small.decode(frame)[0, 0].clamp(0, 1).mul(255).byte()
    assert picture.size == (5 * space.spacial_downscale_ratio, 3 * space.spacial_downscale_ratio)
    assert torch.equal(_bytes(picture), expected)


def _bytes(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture))


@pytest.fixture
def shown(pack, monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """The pictures that a run turns to, all frames of each chunk; previews are wanted."""
    import comfy.cli_args
    from latent_preview import LatentPreviewMethod

    pictures: list[Image.Image] = []
    book = pack.module("nodes.status.preview").Flipbook
    monkeypatch.setattr(book, "turn_to", lambda self, turned, seconds: pictures.extend(turned))
    monkeypatch.setattr(comfy.cli_args.args, "preview_method", LatentPreviewMethod.Auto)
    return pictures


def put_in_animated_previews(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As the pack Video Helper Suite does with its animated previews on: in place of the host's previewer stands one
    that shows as many frames of what it is given as are due by the clock, by messages of its own, and gives nothing
    back. Returns how many frames each message had."""
    import latent_preview

    sent: list[int] = []
    original = latent_preview.get_previewer

    class Animated(latent_preview.LatentPreviewer):
        def __init__(self) -> None:
            self.shown_until = 0.0

        def decode_latent_to_preview_image(self, preview_format: str, x0: torch.Tensor) -> None:
            due = int((time.time() - self.shown_until) * 4)
            if due > 0:
                self.shown_until = time.time() + 0.25
                sent.append(min(due, x0.shape[2]))

    @functools.wraps(original)
    def get_previewer(device: object, latent_format: object) -> latent_preview.LatentPreviewer | None:
        return original(device, latent_format) and Animated()

    monkeypatch.setattr(latent_preview, "get_previewer", get_previewer)
    return sent


def test_the_preview_moves_beside_the_animated_previews_of_another_pack(
    load, video, shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.host.conftest import conditioning

    model = load("self_forcing_dmd.safetensors")
    video(model, conditioning(1), seconds=1.2)
    alone = [picture.tobytes() for picture in shown]
    assert len(alone) == len(set(alone)) == 6  # every frame of two chunks
    shown.clear()
    sent = put_in_animated_previews(monkeypatch)
    video(model, conditioning(1), seconds=1.2)
    assert [picture.tobytes() for picture in shown] == alone and sent == []


def test_a_previewer_that_draws_one_frame_otherwise_is_kept(
    load, video, shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As packs do that bring a better decoder."""
    import latent_preview

    from tests.host.conftest import conditioning

    class Better(latent_preview.LatentPreviewer):
        def decode_latent_to_preview(self, x0: torch.Tensor) -> Image.Image:
            assert x0.shape[2] == 1
            return Image.new("RGB", (2, 2), "green")

    monkeypatch.setattr(latent_preview, "get_previewer", lambda device, latent_format: Better())
    video(load("self_forcing_dmd.safetensors"), conditioning(1), seconds=0.5)
    assert [picture.getpixel((0, 0)) for picture in shown] == [(0, 128, 0)] * 3


def test_no_previews_are_made_beside_another_pack_when_none_are_wanted(
    load, video, shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.cli_args
    from latent_preview import LatentPreviewMethod

    from tests.host.conftest import conditioning

    sent = put_in_animated_previews(monkeypatch)
    monkeypatch.setattr(comfy.cli_args.args, "preview_method", LatentPreviewMethod.NoPreviews)
    video(load("self_forcing_dmd.safetensors"), conditioning(1), seconds=0.5)
    assert shown == [] == sent


def test_a_previewer_that_cannot_be_made_does_not_end_the_run(
    load, video, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import latent_preview

    from tests.host.conftest import conditioning

    def refuse(device: object, latent_format: object) -> None:
        raise RuntimeError("Unsupported preview type")

    monkeypatch.setattr(latent_preview, "get_previewer", refuse)
    video(load("self_forcing_dmd.safetensors"), conditioning(1), seconds=0.5)
    assert "There is no preview: Unsupported preview type." in caplog.text


@pytest.mark.parametrize("made", [None, RuntimeError("no preview today")])
def test_a_previewer_of_another_pack_that_makes_nothing_does_not_end_the_run(
    pack, load, video, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, made: Exception | None
) -> None:
    import latent_preview

    from tests.host.conftest import conditioning

    class Other:
        calls = 0

        def decode_latent_to_preview_image(self, kind: str, x0: torch.Tensor) -> None:
            Other.calls += 1
            if made is not None:
                raise made

    monkeypatch.setattr(latent_preview, "get_previewer", lambda device, latent_format: Other())
    video(load("self_forcing_dmd.safetensors"), conditioning(1), seconds=1.2)
    assert Other.calls == (3 if made is None else 1)  # a frame each; then no more
    reason = "Other makes no picture of a single frame" if made is None else "no preview today"
    assert caplog.text.count(f"There is no preview: {reason}.") == 1
