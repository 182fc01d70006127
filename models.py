"""The small CNN: images in, embeddings out. It never sees a label.

Three blocks of two 3x3 convolutions behind a fixed whitening layer, the shape of airbench94 (Jordan 2024,
arXiv:2404.00498), or of three and a residual connection, that of its airbench96, then global max pooling and one linear
layer to the embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from choices import DEEPEST, LARGEST_IMAGE, SMALLEST_IMAGE

WHITEN_KERNEL = 2  # pixels
WHITEN_PIXELS = 5000 * 32 * 32  # of images whose patches are unfolded at once: about 0.5 GB
WHITEN_EPS = 5e-4  # added to the eigenvalues, so that near-constant patch directions are not blown up


class Conv3x3(nn.Module):
    """3x3 convolution, padding 1, no bias; its weight is kept as the matrix [out, 9 in] that Muon optimises."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        filters = torch.empty(channels_out, channels_in, 3, 3)
        nn.init.kaiming_uniform_(filters, a=5**0.5)
        nn.init.dirac_(filters[:channels_in])  # a layer starts by passing its input on (airbench94)
        self.shape = (channels_out, 3, 3, channels_in)
        self.weight = nn.Parameter(filters.permute(0, 2, 3, 1).reshape(channels_out, -1))

    def forward(self, x: Tensor) -> Tensor:
        # Stored as [out, y, x, in], seen as [out, in, y, x]: channels-last without a copy.
        return F.conv2d(x, self.weight.view(self.shape).permute(0, 3, 1, 2), padding=1)


class Norm(nn.BatchNorm2d):
    """Batch normalisation with a trained bias but no trained scale: the next layer's filters set the scale."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.weight.requires_grad_(False)


class Block(nn.Module):
    """`depth` convolutions; the first one's output is pooled to half the size: [B, i, H, W] -> [B, o, H/2, W/2].

    From three on, the first one's features are added to what the others make of them (He et al. 2016,
    arXiv:1512.03385): without that, three were no better than two in the same time.
    """

    def __init__(self, channels_in: int, channels_out: int, depth: int):
        super().__init__()
        sizes = (channels_in, *[channels_out] * (depth - 1))
        self.convs = nn.ModuleList(Conv3x3(size, channels_out) for size in sizes)
        self.norms = nn.ModuleList(Norm(channels_out) for _ in sizes)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = zip(self.convs, self.norms, strict=True)
        pooled = x = F.gelu(first[1](F.max_pool2d(first[0](x), 2)))
        for conv, norm in others:
            x = F.gelu(norm(conv(x)))
        return pooled + x if len(others) > 1 else x


class Backbone(nn.Module):
    """Images [B, in_channels, H, W] to embeddings [B, embedding_dim], float32, not normalised."""

    def __init__(self, in_channels: int, embedding_dim: int, widths: tuple[int, ...], depth: int):
        super().__init__()
        patch = in_channels * WHITEN_KERNEL**2
        # 2x2 patches to uncorrelated features: fixed filters, set by init_whitening, and a trained bias.
        self.whiten = nn.Conv2d(in_channels, 2 * patch, WHITEN_KERNEL)
        self.whiten.weight.requires_grad_(False)
        self.whiten.bias = nn.Parameter(torch.zeros(2 * patch))
        sizes = (2 * patch, *widths)
        self.blocks = nn.Sequential(*(Block(i, o, depth) for i, o in zip(sizes[:-1], sizes[1:], strict=True)))
        self.embed = nn.Linear(widths[-1], embedding_dim, bias=False)
        # Centred embeddings: without it all of them start in one narrow cone, and in 2-D some classes stay there.
        self.centre = nn.BatchNorm1d(embedding_dim, affine=False)

    @torch.no_grad()
    def init_whitening(self, images: Tensor) -> None:
        """Set the first layer from training images [N, C, H, W] (normalised floats): the eigenvectors of their 2x2
        patches, each scaled to unit variance, and their negatives (airbench94, Sec. 3.2)."""
        size = WHITEN_KERNEL**2 * images.shape[1]
        total, count = torch.zeros(size, size, device=images.device), 0
        for part in images.split(max(1, WHITEN_PIXELS // images[0, 0].numel())):
            patches = F.unfold(part.float(), WHITEN_KERNEL).transpose(1, 2).flatten(0, 1)
            total, count = total + patches.T @ patches, count + len(patches)
        covariance = total / count
        values, vectors = torch.linalg.eigh(covariance.cpu().double())  # Apple's GPUs have no float64
        # An eigenvector's sign is the solver's whim; with both signs in the layer, fixing it only fixes the order.
        vectors = vectors * vectors.sum(0).sign().where(vectors.sum(0) != 0, torch.ones(()))
        filters = (vectors / (values + WHITEN_EPS).sqrt()).T.flip(0).reshape(-1, *self.whiten.weight.shape[1:])
        self.whiten.weight.copy_(torch.cat((filters, -filters)))

    def filters(self) -> list[Tensor]:
        """The weight matrices that a normalisation follows: only their direction matters, and Muon trains it."""
        return [m.weight for m in self.modules() if isinstance(m, Conv3x3)] + [self.embed.weight]

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(F.gelu(self.whiten(images)))
        with torch.autocast(images.device.type, enabled=False):
            # float32 from here: half precision would put 2-D embeddings on a visible grid.
            return self.centre(self.embed(x.float().amax((2, 3))))


def build_backbone(
    in_channels: int, embedding_dim: int, image_size: int, *, widths: tuple[int, ...] = (64, 256, 256), depth: int = 2
) -> Backbone:
    """Make the CNN: float images [B, in_channels, H, W] -> [B, embedding_dim], not normalised.

    widths: channels of the three blocks; depth: convolutions in each, two or more. Raises ValueError, naming the value,
    for sizes it cannot take.
    """
    if in_channels < 1 or embedding_dim < 1:
        raise ValueError(f"{in_channels} image channels, embedding dimension {embedding_dim}: need at least 1")
    if not SMALLEST_IMAGE <= image_size <= LARGEST_IMAGE:
        raise ValueError(f"image size {image_size}: need {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels")
    if len(widths) != 3 or min(widths) < 1:
        raise ValueError(f"widths {widths}: need three positive channel counts")
    if not 2 <= depth <= DEEPEST:
        raise ValueError(f"depth {depth}: need 2 to {DEEPEST} convolutions a block")
    return Backbone(in_channels, embedding_dim, tuple(widths), depth)
