"""From pixels to input: statistics, augmentation and normalisation, against slow loops."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import data


def test_statistics_are_exact(monkeypatch):
    monkeypatch.setattr(data, "STATISTICS_CHUNK", 7)
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 9, 11)).astype(np.uint8)
    images[:, 1] //= 5
    images[:, 2] = 77  # no variation at all
    mean, std = data.channel_statistics(torch.from_numpy(images))
    assert mean.dtype == std.dtype == torch.float32 and mean.shape == std.shape == (3,)
    exact = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(std[:2], exact.std((0, 2, 3))[:2], rtol=1e-7)
    assert std[2].item() == pytest.approx(1 / 255)


def slow_augment(images: np.ndarray, seed: int, shift: int, flip: bool) -> np.ndarray:
    """numpy's padding, a crop and a flip, image by image, from the same random numbers."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = images.shape
    down = torch.randint(-shift, shift + 1, (batch,), generator=generator).tolist()
    right = torch.randint(-shift, shift + 1, (batch,), generator=generator).tolist()
    mirrored = (torch.rand(batch, generator=generator) < 0.5).tolist() if flip else [False] * batch
    out = []
    for image, dy, dx, mirror in zip(images, down, right, mirrored):
        mode = "constant" if channels == 1 else "reflect"
        padded = np.pad(image, ((0, 0), (shift, shift), (shift, shift)), mode=mode)
        crop = padded[:, shift + dy : shift + dy + height, shift + dx : shift + dx + width]
        out.append(crop[:, :, ::-1] if mirror else crop)
    return np.stack(out)


@pytest.mark.parametrize("shape", [(64, 1, 28, 28), (64, 3, 32, 32), (33, 2, 5, 9), (33, 1, 5, 9), (1, 3, 8, 8)])
@pytest.mark.parametrize("shift, flip", [(0, False), (0, True), (2, True), (4, False), (4, True)])
def test_augment_against_a_slow_loop(shape, shift, flip):
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    got = data.augment(torch.from_numpy(images), torch.Generator().manual_seed(9), shift, flip)
    assert got.dtype == torch.uint8 and got.is_contiguous()
    np.testing.assert_array_equal(got.numpy(), slow_augment(images, 9, shift, flip))


def test_augment_takes_every_position_equally_often():
    images = torch.zeros(20_000, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 3] = 1
    heat = data.augment(images, torch.Generator().manual_seed(0), 2, True)[:, 0].sum(0, dtype=torch.float64)
    assert heat.sum() == 20_000
    one_way = torch.zeros(9, 9, dtype=torch.float64)
    one_way[2:7, 1:6] = 1 / 25
    expected = 20_000 * (one_way + one_way.flip(1)) / 2
    assert torch.all((heat - expected).abs() <= 6 * expected.sqrt())


def test_augment_is_reproducible():
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    kept = images.clone()
    first, again, other = (data.augment(images, torch.Generator().manual_seed(s), 2, True) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(images, kept)
    part = images[:, :1]  # not contiguous
    same = data.augment(part.contiguous(), torch.Generator().manual_seed(1), 2, True)
    assert torch.equal(same, data.augment(part, torch.Generator().manual_seed(1), 2, True))
    torch.manual_seed(4)
    first = data.augment(images, None, 2, True)
    torch.manual_seed(4)
    assert torch.equal(first, data.augment(images, None, 2, True))


def test_augment_sends_nothing_but_its_random_numbers_to_the_device():
    """The device is PyTorch's 'meta', which computes nothing and has the same copies made as a GPU."""
    sent = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default:
                sent.append((kwargs["device"].type, args[0].shape, kwargs.get("non_blocking")))
            return function(*args, **(kwargs or {}))

    for channels in (1, 3):
        images = torch.empty(50, channels, 16, 16, dtype=torch.uint8, device="meta")
        with Copies():
            assert data.augment(images, torch.Generator().manual_seed(1), 2, True).shape == images.shape
        assert sent == [("meta", (50, 1), True)] * 3
        sent.clear()


@pytest.mark.parametrize("shift", [16, -1])
def test_augment_refuses_nonsense(shift):
    with pytest.raises(ValueError, match=f"shift {shift} "):
        data.augment(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), None, shift, False)


def test_to_input():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 12, 10), dtype=np.uint8)
    mean, std = data.channel_statistics(torch.from_numpy(images))
    got = data.to_input(torch.from_numpy(images), mean, std)
    assert got.dtype == torch.float32 and got.shape == images.shape
    assert got.is_contiguous(memory_format=torch.channels_last)
    m, s = (v.numpy().astype(np.float64)[:, None, None] for v in (mean, std))
    np.testing.assert_allclose(got.numpy(), (images / 255.0 - m) / s, atol=2e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_augment_and_to_input_give_the_same_on_a_gpu():
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    for channels in (1, 3):
        statistics = data.channel_statistics(images[:, :channels])
        here, there = (
            data.augment(images[:, :channels].to(device), torch.Generator().manual_seed(1), 2, True)
            for device in ("cpu", "cuda")
        )
        assert there.is_cuda and torch.equal(here, there.cpu())
        inputs = data.to_input(there, *statistics)
        torch.testing.assert_close(inputs.cpu(), data.to_input(here, *statistics))
