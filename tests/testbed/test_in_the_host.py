"""What the testbed makes is taken by the host's own loaders and by the nodes of this pack."""

import importlib
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from testbed.export import export
from testbed.latents import load_basis
from testbed.model_files import FILES
from testbed.network import CausalWan, Shape
from testbed.prompts import Prompt
from testbed.text_encoder import ENCODER_FILE, TEXT_TOKENS, load_texts
from testbed.train import optimizers
from testbed.training_state import TrainingState


def run(node: type, **inputs: object) -> tuple:
    with torch.inference_mode():
        return node.PREPARE_CLASS_CLONE({"hidden_inputs": {}}).execute(**inputs).args  # type: ignore[attr-defined]


def test_load_ar_model_takes_an_exported_file(nodes: dict[str, type], models: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CausalWan(Shape(width=128, layers=1, feed_forward=128))
    TrainingState(network, optimizers(network, 1e-3)).save(tmp_path / "state.safetensors", "")
    name = FILES["chunk3"].name
    export(tmp_path / "state.safetensors", models / "diffusion_models" / name)
    model, told = run(nodes["HeadForcingLoadARModel"], model_name=name)
    assert "1 layers of 1 heads" in told and "Family self_forcing, told by the file name" in told
    assert "3 frames a chunk, 4 steps" in told
    assert type(model.model.diffusion_model).__name__ == "CausalWanModel"


def test_the_text_encoder_tells_prompts_apart(nodes: dict[str, type], models: Path) -> None:
    shutil.copy(ENCODER_FILE, models / "text_encoders")
    (clip,) = run(nodes["HeadForcingTestLoadUMT5"], clip_name=ENCODER_FILE.name)

    def encoded(prompt: Prompt) -> Tensor:
        (tokens,) = (clip.encode_from_tokens(clip.tokenize(prompt.text)),)
        assert tokens.shape == (1, TEXT_TOKENS, 64)
        return tokens[0]

    plain, texts = encoded(Prompt()), load_texts()
    kept = texts.tokens[texts.index(Prompt())]
    assert torch.allclose(plain[: len(kept)], kept, atol=0.02) and not plain[len(kept) :].any()
    others = (Prompt(shape="box"), Prompt(colour="blue"), Prompt(speed="fast"), Prompt(sky="fog"))
    for other in (*others, Prompt(camera="pans left"), Prompt(camera="pans right")):
        assert (encoded(other) - plain).norm() > 0.2 * plain.norm()


@pytest.fixture
def vae(host: None, models: Path) -> object:
    import comfy.sd
    import comfy.utils

    from testbed.decoder import new_vae

    torch.manual_seed(0)
    model = new_vae()
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, models / "vae" / "world.safetensors"
    )
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(models / "vae" / "world.safetensors"), safe_load=True))


def test_the_host_decodes_with_it_as_training_does(vae, nodes: dict[str, type]) -> None:
    from testbed.decoder import decode

    latent = torch.randn(1, 16, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = vae.decode(latent)[0]  # (pictures, height, width, 3), 0 to 1
        trained = decode(vae.first_stage_model, latent, 2)
    own = ((trained + 1) / 2).clamp(0, 1)[0].movedim(0, -1)
    assert whole.shape == (17, 32, 32, 3) and whole.std() > 0.01
    assert torch.allclose(whole[1:], own, atol=1e-5)


def test_it_decodes_in_pieces_as_in_one(vae, nodes: dict[str, type]) -> None:
    decoder = importlib.import_module("world_pack.nodes.host.chunk_decoder").ChunkDecoder(vae)
    latent = torch.randn(1, 16, 7, 4, 4, generator=torch.Generator().manual_seed(0))
    pieces = torch.cat(
        [decoder.decode(latent[:, :, :3]), decoder.decode(latent[:, :, 3:6]), decoder.decode(latent[:, :, 6:])]
    )
    assert torch.allclose(pieces, vae.decode(latent)[0], atol=1e-5)


@pytest.mark.parametrize(("pairs", "pictures"), [(0, 1), (1, 8), (3, 8)])
def test_the_decoder_learns_the_pictures_of_its_latent(host: None, pairs: int, pictures: int) -> None:
    from comfy.latent_formats import Wan21

    from testbed.decoder import decoder_batch

    basis = load_basis()
    seen = []
    for seed in range(6):
        latent, wanted = decoder_batch(seed, basis, pairs)
        assert latent.shape == (1, 16, 1 + 2 * pairs, 8, 8) and wanted.shape == (1, 3, pictures, 64, 64)
        shown = basis.pictures(Wan21().process_in(latent)[0])[-1]
        seen.append(((wanted[0, :, -1].movedim(0, -1) + 1) / 2 - shown).square().mean().item())
    assert sum(seen) / len(seen) < 0.005  # the latent of training has a little noise
