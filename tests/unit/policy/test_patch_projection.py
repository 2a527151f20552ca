"""The tower's first layer is the convolution that it stands for, to files and adapters too."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ktr.policy.families import load_policy
from ktr.policy.patch_projection import PatchProjection
from tests.tiny_families import FAMILIES, save_family


@pytest.mark.parametrize("bias", [True, False])
def test_it_equals_the_convolution_forward_and_backward(bias: bool):
    kernel = (2, 14, 14)
    convolution = nn.Conv3d(3, 32, kernel, kernel, bias=bias)
    projection = PatchProjection.of(convolution)
    patches = torch.randn(24, 3, *kernel, requires_grad=True)
    held = [patches, *convolution.parameters()]
    expected, out = convolution(patches), projection(patches)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(out, held, upstream), torch.autograd.grad(expected, held, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


def test_a_picture_larger_than_a_patch_is_refused():
    convolution = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4))
    with pytest.raises(AssertionError, match="patches of"):
        PatchProjection.of(convolution)(torch.randn(1, 3, 2, 8, 8))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_it_under_the_names_and_shapes_of_its_folder(family: str, tmp_path):
    folder = save_family(family, tmp_path / family)
    policy = load_policy(folder)
    assert isinstance(policy.model.model.visual.patch_embed.proj, PatchProjection)
    policy.save(tmp_path / "saved")
    before, after = (load_file(at / "model.safetensors") for at in (folder, tmp_path / "saved"))
    assert before.keys() == after.keys()
    towers = [{n: tensor.shape for n, tensor in file.items() if ".patch_embed." in n} for file in (before, after)]
    assert towers[0] == towers[1] != {}


def test_adapters_of_it_act_and_merge_as_those_of_the_convolution(policy_folder):
    options = {"r": 4, "target_modules": ["patch_embed.proj"], "init_lora_weights": False}
    layer = load_policy(policy_folder, lora=options).model.model.visual.patch_embed.proj
    patches = torch.randn(6, 3, 2, 14, 14)
    acting = layer(patches)
    layer.merge()
    plain = nn.functional.conv3d(patches, layer.get_base_layer().weight, None, layer.get_base_layer().stride)
    torch.testing.assert_close(acting, plain, atol=1e-4, rtol=1e-5)
