"""Seconds, pixel frames, frames and chunks."""

import pytest

from headforcing_core.geometry import VideoShape, frames_for, latent_size, pixel_frames_of, tokens_per_frame


def test_a_minute_is_81_chunks_and_240_frames_last_just_under_it() -> None:
    assert VideoShape(60.0, 16.0, 832, 480, 3).chunks == 81
    assert VideoShape(59.8, 16.0, 832, 480, 3).frames == 240 and pixel_frames_of(240) == 957


def test_five_seconds_are_the_trained_21_frames() -> None:
    assert frames_for(81) == 21 and VideoShape(5.0, 16.0, 832, 480, 3).frames == 21


def test_a_frame_at_832_by_480_has_1560_tokens() -> None:
    assert tokens_per_frame(*latent_size(832, 480)) == 1560


def test_a_start_image_counts_and_a_continued_video_does_not() -> None:
    image = VideoShape(5.0, 16.0, 832, 480, 3, prefix_frames=1, counts_prefix=True)
    assert (image.chunks, image.frames, image.pixel_frames) == (7, 22, 80)
    continued = VideoShape(5.0, 16.0, 832, 480, 3, prefix_frames=21)
    assert (continued.chunks, continued.frames, continued.pixel_frames) == (7, 42, 81 + 80)
    assert continued.start_second(4) == 3.0 and VideoShape(5.0, 16.0, 832, 480, 3).start_second(4) == 2.8125


def test_chunks_cover_the_asked_length_and_no_more_than_a_chunk() -> None:
    for tenths in range(1, 400):
        for chunk_frames in (1, 3):
            video = VideoShape(tenths / 10, 16.0, 832, 480, chunk_frames)
            assert pixel_frames_of(video.frames) >= video.pixel_frames
            assert video.chunks == 1 or pixel_frames_of(video.frames - chunk_frames) < video.pixel_frames


@pytest.mark.parametrize(
    "seconds, fps, width, height, message",
    [
        (0.0, 16.0, 832, 480, "seconds is 0.0"),
        (-1.0, 16.0, 832, 480, "seconds is -1.0"),
        (float("nan"), 16.0, 832, 480, "seconds is nan"),
        (5.0, 0.0, 832, 480, "fps is 0.0"),
        (5.0, 16.0, 830, 480, "Set width to 816 or 832"),
        (5.0, 16.0, 832, 0, "Set height to 16 or 32"),
    ],
)
def test_lengths_and_sizes_that_cannot_be_are_refused(
    seconds: float, fps: float, width: int, height: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        VideoShape(seconds, fps, width, height, 3)
