"""The network: shapes, precision, its fixed first layer against its definition, and the sizes it refuses."""

import contextlib

import pytest
import torch
import torch.nn.functional as F

import models
import trainer
from models import SMALLEST_IMAGE, WHITEN_EPS, Conv3x3, build_backbone

WIDTHS = (4, 6, 8)


def pictures(count=6, channels=3, size=16, seed=0):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def backbone(channels=3, dim=5, size=16, widths=WIDTHS, seed=0):
    torch.manual_seed(seed)
    net = build_backbone(channels, dim, size, widths=widths)
    net.init_whitening(pictures(50, channels, size, seed=9))
    return net


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 28, 32, 45])
def test_embeddings_have_the_dimension_asked_for_and_stay_float32_under_autocast(channels, size):
    net, images = backbone(channels, 7, size), pictures(4, channels, size)
    images = images.contiguous(memory_format=torch.channels_last)
    for mode in (net.train(), net.eval()):
        plain = mode(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = mode(images)
        assert plain.shape == half.shape == (4, 7)
        assert plain.dtype == half.dtype == torch.float32
        # The convolutions did run in half precision, so the results differ; but the tail did not round to bf16's grid.
        assert not torch.equal(plain, half)
        assert not torch.equal(half, half.bfloat16().float())


def test_the_embedding_is_not_normalised_but_centred_over_the_batch():
    x = backbone()(pictures(64))
    torch.testing.assert_close(x.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    assert x.norm(dim=1).std() > 0.1


def test_in_eval_mode_an_image_embeds_alike_in_every_batch():
    net, images = backbone(), pictures(12)
    net(images)  # so that the running statistics are not the initial ones
    net.eval()
    together = net(images)
    alone = torch.cat([net(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    net.train()
    assert (net(images)[:3] - net(images[:3])).abs().max() > 0.1  # whereas in training the batch does matter


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_makes_patch_features_uncorrelated_with_unit_variance(channels):
    # Noise with correlated neighbours and channels: its patch covariance is far from the identity before whitening.
    noise = pictures(400, channels, 16)
    images = 0.7 * noise + 0.5 * noise.roll(1, 3) + 0.3 * noise.flip(1)
    net = build_backbone(channels, 4, 16, widths=WIDTHS)
    net.init_whitening(images)
    patch = 4 * channels
    features = net.whiten(images).transpose(0, 1).flatten(1)
    assert features.shape[0] == 2 * patch
    torch.testing.assert_close(features[patch:], -features[:patch])
    covariance = features[:patch] @ features[:patch].T / features.shape[1]
    before = F.unfold(images, 2).transpose(1, 2).flatten(0, 1).T.cov()
    assert (before - torch.eye(patch)).abs().max() > 0.2
    torch.testing.assert_close(covariance, torch.eye(patch), atol=0.05, rtol=0)


def test_whitening_does_not_blow_up_directions_without_variance():
    net = build_backbone(3, 4, 16, widths=WIDTHS)
    grey = pictures(50, 1).expand(-1, 3, -1, -1)  # three equal channels: two thirds of the directions are empty
    net.init_whitening(grey)
    assert torch.isfinite(net.whiten.weight).all()
    assert net.whiten.weight.abs().max() <= WHITEN_EPS**-0.5 * 1.01


def test_whitening_depends_on_the_images_alone():
    first, second = (build_backbone(3, 4, 16, widths=WIDTHS) for _ in range(2))
    for net in (first, second):
        net.init_whitening(pictures(50))
    assert torch.equal(first.whiten.weight, second.whiten.weight)
    second.init_whitening(pictures(50, seed=1))
    assert not torch.equal(first.whiten.weight, second.whiten.weight)


def test_whitening_a_part_of_the_images_at_a_time_is_whitening_all(monkeypatch):
    whole, parts = (build_backbone(3, 4, 16, widths=WIDTHS) for _ in range(2))
    whole.init_whitening(pictures(50))
    monkeypatch.setattr(models, "WHITEN_PIXELS", 7 * 16 * 16)
    seen = []
    real = F.unfold
    monkeypatch.setattr(F, "unfold", lambda images, kernel: seen.append(len(images)) or real(images, kernel))
    parts.init_whitening(pictures(50))
    assert seen == [7] * 7 + [1]
    torch.testing.assert_close(parts.whiten.weight, whole.whiten.weight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "largest"), [(16, 100), (32, 100), (64, 25), (512, 1)])
def test_larger_images_are_embedded_fewer_at_a_time(size, largest):
    seen = []

    class Net(torch.nn.Module):
        def forward(self, images):
            seen.append(len(images))
            return images.flatten(1)[:, :2]

    count = min(260, 2 * largest)
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    found = trainer.embed(Net(), images, torch.zeros(1), torch.ones(1), contextlib.nullcontext())
    assert max(seen) == largest and sum(seen) == len(found) == count


@pytest.mark.parametrize(("channels_in", "channels_out"), [(3, 5), (5, 3), (4, 4)])
def test_a_convolution_equals_its_definition(channels_in, channels_out):
    layer, x = Conv3x3(channels_in, channels_out), pictures(2, channels_in, 6)
    torch.nn.init.normal_(layer.weight)
    filters = layer.weight.detach().reshape(channels_out, 3, 3, channels_in)
    padded = F.pad(x, (1, 1, 1, 1))
    expected = torch.zeros(2, channels_out, 6, 6)
    for out in range(channels_out):
        for row in range(6):
            for column in range(6):
                window = padded[:, :, row : row + 3, column : column + 3]
                for c in range(channels_in):
                    expected[:, out, row, column] += (window[:, c] * filters[out, :, :, c]).sum((1, 2))
    torch.testing.assert_close(layer(x).detach(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(x), F.conv2d(x, filters.permute(0, 3, 1, 2), padding=1))


@pytest.mark.parametrize(("channels_in", "channels_out"), [(3, 8), (8, 3), (4, 4)])
def test_a_convolution_starts_by_passing_its_input_on(channels_in, channels_out):
    x = pictures(2, channels_in, 6)
    layer = Conv3x3(channels_in, channels_out)
    same = min(channels_in, channels_out)
    torch.testing.assert_close(layer(x)[:, :same], x[:, :same])
    if channels_out > channels_in:  # the filters left over are random, no two alike
        assert layer.weight[channels_in:].std() > 0.01


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_block_is_its_definition(depth):
    torch.manual_seed(0)
    block, x = models.Block(3, 5, depth).eval(), pictures(2, 3, 16)
    for norm in block.norms:  # statistics of their own, so that a norm left out or taken twice shows
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        norm.bias.data.uniform_(-1, 1)
    outputs = []
    for i in range(depth):
        filters = block.convs[i].weight.reshape(5, 3, 3, -1).permute(0, 3, 1, 2)
        y = F.conv2d(x if i == 0 else outputs[-1], filters, padding=1)
        y = F.max_pool2d(y, 2) if i == 0 else y
        norm = block.norms[i]
        y = (y - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[:, None, None]
        outputs.append(F.gelu(y + norm.bias[:, None, None]))
    expected = outputs[-1] if depth == 2 else outputs[0] + outputs[-1]
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


def test_the_embedding_is_the_largest_feature_over_all_places_projected_and_centred():
    net, images = backbone(size=32).train(), pictures(9, size=32)
    net(images)  # so that the running statistics are not the initial ones
    net.eval()
    features = net.blocks(F.gelu(net.whiten(images)))
    assert features.shape[2:] == (3, 3)
    pooled = torch.tensor([[max(channel.flatten().tolist()) for channel in image] for image in features])
    centred = (pooled @ net.embed.weight.T - net.centre.running_mean) / (net.centre.running_var + net.centre.eps).sqrt()
    torch.testing.assert_close(net(images), centred, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("depth", [0, 1, models.DEEPEST + 1])
def test_a_depth_out_of_range_is_named(depth):
    with pytest.raises(ValueError, match=f"depth {depth}"):
        build_backbone(3, 4, 16, depth=depth)


def test_filters_are_all_matrices_that_a_normalisation_follows():
    net = backbone()
    filters = {id(p) for p in net.filters()}
    assert len(filters) == len(net.filters()) == 7  # two convolutions in each of three blocks, and the embedding
    for name, p in net.named_parameters():
        assert (id(p) in filters) == (p.requires_grad and p.ndim == 2), name
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    norms = {f"blocks.{block}.norms.{i}.weight" for block in range(3) for i in (0, 1)}
    assert frozen == {"whiten.weight", *norms}


def test_the_same_seed_makes_the_same_network():
    images = pictures()
    assert torch.equal(backbone(seed=3)(images), backbone(seed=3)(images))
    assert not torch.equal(backbone(seed=3)(images), backbone(seed=4)(images))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 4, 16), "0 image channels"),
        ((3, 0, 16), "dimension 0"),
        ((3, -2, 16), "dimension -2"),
        ((3, 4, SMALLEST_IMAGE - 1), "image size 15"),
        ((3, 4, 513), "image size 513"),
    ],
)
def test_sizes_that_cannot_work_are_named(arguments, named):
    with pytest.raises(ValueError, match=named) as caught:
        build_backbone(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("widths", [(4, 4), (4, 4, 4, 4), (4, 0, 4), (4, 4, -1)])
def test_widths_that_cannot_work_are_named(widths):
    with pytest.raises(ValueError, match="three positive channel counts"):
        build_backbone(3, 4, 16, widths=widths)


def test_the_smallest_image_still_leaves_a_pixel():
    assert backbone(size=SMALLEST_IMAGE).blocks(pictures(2, 24, SMALLEST_IMAGE - 1)).shape[2:] == (1, 1)
