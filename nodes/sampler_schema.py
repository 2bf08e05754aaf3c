"""What the artist sees of the Head-Forced Sampler: its inputs and outputs, and what each changes."""

from __future__ import annotations

from comfy_api.latest import io

from ..headforcing_core.geometry import MOST_SECONDS
from ..headforcing_core.rollout.noise import NOISE_MODES
from ..headforcing_core.run_store.folder import ON_EXISTING
from ..headforcing_core.run_store.record import MOST_CHUNKS
from .inputs import fps_input, height_input, seed_input, width_input
from .request.source import USUAL_STRENGTH
from .sockets import CATEGORY, CachePolicySocket, CardsSocket, HeadProfileSocket, PromptScheduleSocket

DEFAULT_SECONDS = 20.0


def sampler_schema() -> io.Schema:
    """The schema of HeadForcingSampler; inputs are only ever added, at the end."""
    return io.Schema(
        node_id="HeadForcingSampler",
        display_name="Head-Forced Sampler",
        category=CATEGORY,
        description="Makes a long video chunk by chunk in flat memory: each kind of attention head keeps the part "
        "of the past that it needs.",
        essentials_category="Video Tools",
        search_aliases=["long video", "self forcing", "infinite", "autoregressive", "head forcing"],
        is_experimental=True,
        inputs=[
            io.Model.Input(
                "model", tooltip="The model, from Load AR Model; LoRA and other model nodes may stand between."
            ),
            PromptScheduleSocket.Input(
                "schedule",
                optional=True,
                tooltip="Prompts at times, from Prompt Schedule. Connect this or positive.",
            ),
            io.Float.Input(
                "seconds",
                default=DEFAULT_SECONDS,
                min=0.0,
                max=MOST_SECONDS,
                step=0.1,
                optional=True,
                tooltip="Length of the video. Time grows with it, memory does not. 0: as long as audio. Typical: 20",
            ),
            width_input("Width in pixels. Most models are trained at 832 x 480. Typical: 832"),
            height_input("Height in pixels. Typical: 480"),
            seed_input("Another seed, another take. Typical: any", changes_by_itself=True),
            HeadProfileSocket.Input(
                "profile",
                optional=True,
                tooltip="Which head does what, from Profile Heads or Load Head Profile. Unconnected: the newest "
                "saved one of this checkpoint, else one is measured first (some chunks more).",
            ),
            CachePolicySocket.Input(
                "policy",
                optional=True,
                tooltip="How much of the past each kind of head keeps, from Head Cache Policy. Unconnected: paper",
            ),
            io.Vae.Input(
                "vae",
                optional=True,
                tooltip="The VAE of the model, wan_2.1_vae for most, wan2.2_vae for LongLive 2; needed for the video "
                "output, start_image and video.",
            ),
            io.Image.Input(
                "start_image",
                optional=True,
                tooltip="The picture that the video begins with. Describe it in the first prompt, or it drifts away.",
            ),
            io.Latent.Input(
                "previous",
                optional=True,
                tooltip="The latent of a finished video that goes on from its last chunk (whole chunks are kept). "
                "seconds and the schedule then count what is new.",
            ),
            io.Sigmas.Input(
                "sigmas",
                optional=True,
                tooltip="Noise levels of every chunk, from 1 down to 0; more steps take longer. Unconnected: the "
                "steps that the model was trained with.",
            ),
            io.Conditioning.Input(
                "positive", optional=True, tooltip="One prompt for the whole video, instead of a schedule."
            ),
            fps_input(
                "Pictures a second. 0 takes the model's own, at which it moves at natural speed: 16 for Wan 2.1, "
                "24 for LongLive 2. Typical: 0",
                of_model=True,
            ),
            io.Combo.Input(
                "noise",
                options=list(NOISE_MODES),
                default="whole_video",
                optional=True,
                advanced=True,
                tooltip="whole_video: the noise of a chunk depends on the seed and its number, counted from the "
                "beginning of previous, so each scene has its own. per_chunk counts from 0 in every scene. native "
                "repeats the numbers of ComfyUI's own AR sampler, for comparison. Typical: whole_video",
            ),
            io.String.Input(
                "run_name",
                default="",
                optional=True,
                advanced=True,
                tooltip="Keeps every finished chunk, and the video so far, in output/head_forcing under this name: "
                "after an interrupt or a crash the next run goes on. Empty: not kept. Typical: my-film",
            ),
            io.Combo.Input(
                "on_existing_run",
                options=list(ON_EXISTING),
                default="resume",
                optional=True,
                advanced=True,
                tooltip="When run_name is there already. resume: go on with it, or make it longer. new: keep it "
                "and take the next free name. replace: delete it. Typical: resume",
            ),
            io.Int.Input(
                "from_chunk",
                default=-1,
                min=-1,
                max=MOST_CHUNKS,
                optional=True,
                advanced=True,
                tooltip="Makes a kept run anew from this chunk on, with another seed or another prompt; the take "
                "before is kept beside it. Counted from 0: chunk 41 of 81 on the node is 40 here. -1: go on where it "
                "ended. Typical: -1",
            ),
            io.MultiType.Input(
                "video",
                types=[io.Video, io.Image],
                optional=True,
                tooltip="A video, or pictures, one for each of the new video's, that this one is made of: restyled by "
                "the prompts. Needs a vae. As much is made as there is, up to seconds.",
            ),
            io.Float.Input(
                "strength",
                default=USUAL_STRENGTH,
                min=0.05,
                max=1.0,
                step=0.05,
                optional=True,
                tooltip="How far from video: low values keep it, 1 ignores it. Nothing without a video. Typical: 0.8",
            ),
            CardsSocket.Input(
                "cards",
                optional=True,
                tooltip="Several cards of this machine that make the video together, from Spread over Cards. "
                "Unconnected: one card",
            ),
            io.Audio.Input(
                "audio",
                optional=True,
                tooltip="Sound of the video, from its first picture on, as far as the video goes. The sound of the "
                "input video is not taken over: connect it here, from Get Video Components.",
            ),
        ],
        outputs=[
            io.Latent.Output(
                display_name="latent", tooltip="The whole video as a latent, for VAE Decode or Save Latent."
            ),
            io.Video.Output(
                display_name="video", tooltip="The finished video, cut to length; made while sampling. Needs a VAE."
            ),
            io.Image.Output(
                display_name="timeline", tooltip="A picture of what each kind of head read, chunk by chunk."
            ),
            io.String.Output(
                display_name="report", tooltip="All that decided about the video, and what was read, as JSON text."
            ),
            io.Video.Output(
                display_name="new_video",
                tooltip="The new part alone, without previous; a start image belongs to it. Only it is decoded where "
                "video is not used and nothing is kept. Without previous the same as video.",
            ),
        ],
        hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
    )
