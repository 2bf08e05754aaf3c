"""What the host's own path does to positions in bfloat16, and that ours does not depend on it."""

import torch


def test_the_hosts_positions_collapse_in_bfloat16_and_ours_do_not(pack, load) -> None:
    wan = load("self_forcing_dmd.safetensors").model.diffusion_model
    rope = pack.module("headforcing_core.kv_memory.rope")
    pairs = rope.temporal_pairs(128)
    theirs = wan.rope_encode(3, 2, 2, t_start=600, dtype=torch.bfloat16, device="cpu")[0, :, 0, :pairs]
    exact = wan.rope_encode(3, 2, 2, t_start=600, dtype=torch.float32, device="cpu")[0, :, 0, :pairs]
    ours = rope.temporal_rotation((600, 601, 602), 128)
    assert torch.equal(theirs[0], theirs[1]) and torch.equal(theirs[1], theirs[2])
    assert torch.equal(ours, exact) and not torch.equal(ours[0], ours[1])
