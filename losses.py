"""Classification heads with angular margins: embeddings (+ labels) in, logits out.

theta_j is the angle between an embedding and class weight W_j, both scaled to length 1. Heads give class j the logit
s cos(theta_j), except for plain softmax and Li-ArcFace's line, and while training replace the target's cosine by

    psi(theta) = (-1)^k cos(m1 theta + m2) - 2k - m3,    k = floor((m1 theta + m2) / pi)

which is SphereFace for (m, 0, 0), ArcFace for (1, m, 0), CosFace for (1, 0, m) and normalised softmax for (1, 0, 0):
ArcFace (arXiv:1801.07698) Eq. 4, continued past m1 theta + m2 = pi as SphereFace (arXiv:1704.08063) Eq. 7 does, so that
it falls all the way from theta = 0 to pi.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bounds import Bound, maximum_margin, minimum_scale
from choices import LOSSES, PRESETS, Margins, checked_head
from unit_vectors import chunks

__all__ = ["LOSSES", "PRESETS", "Bound", "Margins", "build_head", "margin_cosine", "maximum_margin", "minimum_scale"]

# Smallest sin^2(theta) used where sin(theta) is a divisor in the gradient: one rounding step of 1 - cos^2. So within
# 0.018 degrees of 0 and pi (in float32) gradients are 0, and a little further off they are only about right.
INTERIOR_EPS = {torch.float32: 1e-7, torch.float64: 1e-15}
# A shorter vector has no direction: its cosines are 0 and no gradient reaches it. The same becomes of one in float32
# whose squares overflow, from a length of 1.8e19 on; the network's, normalised, are far from either.
NORM_EPS = 1e-8
FLOOR = 0.1  # the smallest scale AdaCos may find
ROWS = 2048  # class weights at a time: what stays in a processor's cache
ENTRIES = 1 << 16  # of an array at a time, likewise


def sine_of(cosine: Tensor) -> Tensor:
    """sin(theta) >= sqrt(eps) from cos(theta), any shape; (1 - c)(1 + c) keeps the digits that 1 - c^2 loses near 1."""
    return ((1 - cosine) * (1 + cosine)).clamp_min(INTERIOR_EPS[cosine.dtype]).sqrt()


def angle_of(cosine: Tensor) -> Tensor:
    """theta in radians from cos(theta), any shape; unlike acos, its gradient is finite at and beyond -1 and 1."""
    return torch.atan2(sine_of(cosine), cosine)


def target_psi(cosine: Tensor, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0) -> Tensor:
    """psi(theta) of the module docstring for target cosines of any shape (float32 or float64)."""
    if m1 == 1 and m2 == 0:
        return cosine - m3
    sine = sine_of(cosine)
    phase = m1 * torch.atan2(sine, cosine) + m2
    # m1 = 1 needs no angle in the differentiable path, so the gradient never divides by sin(theta) twice.
    cos_phase = cosine * math.cos(m2) - sine * math.sin(m2) if m1 == 1 else phase.cos()
    k = torch.floor(phase.detach() / math.pi)
    return (1 - 2 * (k % 2)) * cos_phase - 2 * k - m3


def margin_cosine(cosine: Tensor, labels: Tensor, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0) -> Tensor:
    """Apply the margins to the target entries (ArcFace Eq. 4, unscaled).

    cosine: [B, C] float32 or float64; labels: [B] int64. Returns [B, C]: entry [i, labels[i]] is psi(theta), the rest
    is untouched; a new tensor, except that (1, 0, 0) returns `cosine` itself. Raises ValueError for margins outside
    m1 > 0, m2 >= 0, all finite, and for cosines in half precision, which hold no small angles.
    """
    if cosine.dtype not in INTERIOR_EPS:
        raise ValueError(f"cosines in {cosine.dtype}: compute them in float32, outside autocast")
    if not (all(map(math.isfinite, (m1, m2, m3))) and m1 > 0 and m2 >= 0):
        raise ValueError(f"margins (m1, m2, m3) = ({m1}, {m2}, {m3}): need finite numbers with m1 > 0 and m2 >= 0")
    if (m1, m2, m3) == (1, 0, 0):
        return cosine
    index = labels.unsqueeze(1)
    return cosine.scatter(1, index, target_psi(cosine.gather(1, index), m1, m2, m3))


def inverse_length(vectors: Tensor) -> Tensor:
    """1 / |v| for each row v of [N, d], as [N, 1]; 0 where the row is too short to have a direction."""
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return torch.where(length > NORM_EPS, 1 / length, 0.0)


def along(vectors: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """How much of each row of `weight` [N, d], 1 / `inverse` long, there is in that row of `vectors`: [N, 1]."""
    return torch.linalg.vecdot(vectors, weight).unsqueeze(1) * inverse**2


class CosineLogits(torch.autograd.Function):
    """s cos(theta_j), with s psi(theta_y) at the target, from embeddings [B, d] and class weights [C, d] -> [B, C].

    By hand, because autograd would keep a normalised copy of W and three arrays [B, C]: with 100,000 classes that is
    twice the time and memory of a linear layer. Normalising W's gradient only takes its part along W away.
    """

    @staticmethod
    def forward(ctx, embeddings: Tensor, weight: Tensor, labels: Tensor | None, scale: float, margins: Margins):
        x_inverse, w_inverse = inverse_length(embeddings), weight.new_empty(len(weight), 1)
        direction = embeddings * x_inverse
        scaled, logits = direction * scale, weight.new_empty(len(embeddings), len(weight))
        for rows in chunks(len(weight), ROWS):
            w_inverse[rows] = inverse_length(weight[rows])
            torch.mm(scaled, weight[rows].T, out=logits[:, rows]).mul_(w_inverse[rows].T)
        slope = None
        if labels is not None and margins != Margins():
            index = labels.unsqueeze(1)
            with torch.enable_grad():
                target = (logits.detach().gather(1, index) / scale).requires_grad_()
                psi = target_psi(target, *margins)
                (slope,) = torch.autograd.grad(psi, target, torch.ones_like(psi))
            logits.scatter_(1, index, psi.detach() * scale)
        ctx.scale = scale
        ctx.save_for_backward(direction, x_inverse, weight, w_inverse, labels, slope)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        direction, x_inverse, weight, w_inverse, labels, slope = ctx.saved_tensors
        need_x, need_w, *_ = ctx.needs_input_grad
        grad_x: Any = torch.zeros_like(direction) if need_x else None
        grad_w: Any = torch.empty_like(weight) if need_w else None
        factor = w_inverse * ctx.scale
        for rows in chunks(len(weight), ROWS):  # in parts: a second array [B, C] would be a third more memory
            g = grad[:, rows] * factor[rows].T
            if need_x:
                grad_x.addmm_(g, weight[rows])
            if need_w:
                part = torch.mm(g.T, direction, out=grad_w[rows])
                part.addcmul_(weight[rows], along(part, weight[rows], w_inverse[rows]), value=-1)
        if slope is not None:  # what the target's entry has beyond the plain cosine's
            more = grad.gather(1, labels.unsqueeze(1)) * factor[labels] * (slope - 1)
            own = weight[labels]
            if need_x:
                grad_x.addcmul_(more, own)
            if need_w:
                across = direction - own * along(direction, own, w_inverse[labels])
                grad_w.index_add_(0, labels, more * across)
        if need_x:
            grad_x.addcmul_(direction, (direction * grad_x).sum(1, keepdim=True), value=-1).mul_(x_inverse)
        return grad_x, grad_w, None, None, None


class AngleLogits(torch.autograd.Function):
    """s (pi - 2 theta) / pi from cos(theta), any shape.

    By hand: autograd would keep five arrays of that shape, where d theta / d cos = -1 / sin(theta) needs one. Where
    sin(theta) is as good as 0 there is no direction to turn in, and no gradient.
    """

    @staticmethod
    def forward(ctx, cosine: Tensor, scale: float):
        logits = torch.empty_like(cosine, memory_format=torch.contiguous_format)
        for entries in chunks(cosine.numel(), ENTRIES):
            logits.view(-1)[entries] = angle_of(cosine.reshape(-1)[entries])
        ctx.scale = scale
        ctx.save_for_backward(cosine)
        return logits.mul_(-2 * scale / math.pi).add_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (cosine,) = ctx.saved_tensors
        result = torch.empty_like(cosine, memory_format=torch.contiguous_format)
        smallest = INTERIOR_EPS[cosine.dtype] ** 0.5
        for entries in chunks(cosine.numel(), ENTRIES):
            sine = sine_of(cosine.reshape(-1)[entries])
            slope = torch.where(sine > smallest, 2 * ctx.scale / math.pi / sine, 0.0)
            torch.mul(grad.reshape(-1)[entries], slope, out=result.view(-1)[entries])
        return result, None


class SoftmaxHead(nn.Module):
    """Plain softmax: logits W x, neither side normalised, no bias (CosFace Sec. 3.1)."""

    scale: float | Tensor  # no value here: a class attribute would hide AdaCos's buffer of the same name
    margin_fraction: float = 1.0  # 0 to 1, moved by the training loop's margin warm-up; not part of the state

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__()
        self.scale = 1.0
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        # 1 / sqrt(d): a logit then starts with the spread of one embedding entry, whatever the dimension.
        nn.init.normal_(self.weight, std=embedding_dim**-0.5)
        self.margins = Margins()

    def _operands(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides in at least float32: half precision rounds cosines near 1 to 1."""
        dtype = torch.promote_types(torch.promote_types(embeddings.dtype, self.weight.dtype), torch.float32)
        return embeddings.to(dtype), self.weight.to(dtype)

    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        """embeddings [B, d], labels [B] int64 or None (predicting: no margin) -> logits [B, C]."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.linear(*self._operands(embeddings))


class CosineHead(SoftmaxHead):
    """NSL, SphereFace, CosFace, ArcFace and the combined form: s psi(theta_y) against s cos(theta_j)."""

    def __init__(self, embedding_dim: int, num_classes: int, scale: float, margins: Margins):
        super().__init__(embedding_dim, num_classes)
        self.scale, self.margins = scale, margins

    def active_margins(self) -> Margins:
        """The margins now in force: `margin_fraction` of the way from (1, 0, 0) to the full ones."""
        m1, m2, m3 = self.margins
        part = self.margin_fraction
        return Margins(1 + part * (m1 - 1), part * m2, part * m3)

    def cosines(self, embeddings: Tensor) -> Tensor:
        """cos(theta) between every embedding and class weight: [B, d] -> [B, C]."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return CosineLogits.apply(*self._operands(embeddings), None, 1.0, Margins())

    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            return CosineLogits.apply(*self._operands(embeddings), labels, self.scale, self.active_margins())


class LiArcFaceHead(CosineHead):
    """Li-ArcFace: logits linear in the angle, s (pi - 2 (theta + m)) / pi (AirFace, arXiv:1907.12256, Eq. 5)."""

    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            logits = AngleLogits.apply(self.cosines(embeddings), self.scale)
            if labels is not None:
                less = -2 * float(self.scale) / math.pi * self.active_margins().m2
                logits.scatter_add_(1, labels.unsqueeze(1), torch.full_like(logits[:, :1], less))
            return logits


class AdaCosHead(CosineHead):
    """NSL whose scale follows the data (dynamic AdaCos, arXiv:1905.00292, Eq. 14 and 15); frozen in eval mode.

    The paper's update has no bound: ln(B_avg) grows with s itself where samples are near another class, for whose
    cosine the paper puts 0; while the median sample is 45 degrees or more from its own, s is that divided by cos(pi/4)
    and may grow by as much a step (MNIST in 2-D reached 4e21 and 48 %). Here it stops at `ceiling`, twice the fixed
    form of Eq. 12, and at FLOOR: few classes, all far from the samples, would make it negative and the farthest class
    the best.
    """

    scale: Tensor

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__(embedding_dim, num_classes, 0.0, Margins())
        del self.scale
        fixed = math.sqrt(2) * math.log(num_classes - 1)  # Eq. 12
        self.register_buffer("scale", torch.tensor(fixed))
        self.ceiling = 2 * fixed

    @torch.no_grad()
    def update_scale(self, cosine: Tensor, labels: Tensor) -> None:
        """s = ln(B_avg) / cos(min(pi/4, median theta_y)); B_avg as a logsumexp, for exp(s cos) overflows early."""
        target = cosine.gather(1, labels.unsqueeze(1))
        others = (self.scale * cosine).scatter_(1, labels.unsqueeze(1), -math.inf)
        log_b_avg = torch.logsumexp(others.flatten(), 0) - math.log(len(cosine))
        scale = log_b_avg / angle_of(target).median().clamp_max(math.pi / 4).cos()
        self.scale.copy_(scale.clamp(FLOOR, self.ceiling))

    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = self.cosines(embeddings)
            if labels is not None and self.training:
                self.update_scale(cosine, labels)
            return cosine.mul_(self.scale.to(cosine.dtype))


def build_head(
    loss: str,
    embedding_dim: int,
    num_classes: int,
    *,
    scale: float | None = None,
    m1: float | None = None,
    m2: float | None = None,
    m3: float | None = None,
) -> SoftmaxHead:
    """Make the head of `loss` (a key of LOSSES) with parameter `weight` [C, d].

    Values left None come from LOSSES (the papers' margins) and DEFAULT_SCALE. Raises ValueError, in one line that names
    the value and the remedy, for an unknown loss, a size below 1, or a scale or margin the loss cannot take.
    """
    if embedding_dim < 1:
        raise ValueError(f"embedding dimension {embedding_dim}: need at least 1")
    scale, margins = checked_head(loss, num_classes, scale, (m1, m2, m3))
    if loss == "softmax":
        return SoftmaxHead(embedding_dim, num_classes)
    if loss == "adacos":
        return AdaCosHead(embedding_dim, num_classes)
    kind = LiArcFaceHead if loss == "li-arcface" else CosineHead
    return kind(embedding_dim, num_classes, scale, margins)
