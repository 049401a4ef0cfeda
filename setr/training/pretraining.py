"""Pre-training of the miniature encoders: a stand-in for ImageNet that takes a minute instead of days.

The proxy task, on scenes of other seeds than any data set here: for every patch, the share of each class in it; for the
whole image, which classes are there. The files have the keys of published ViT, DeiT and ResNet checkpoints, made for
another image size, so they go through the same loading code: classifier dropped, position table resized.
This is not ImageNet, and the report says so.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.data.loading.transforms import normalise
from setr.models.encoder import TappedVisionTransformer, initialise_encoder
from setr.models.hybrid import ResNetEncoder
from setr.models.specification import ResNetSpec
from setr.models.variants import MINIATURES, variant_spec
from setr.training.proxies import Proxy

TASK = "share of each class in every patch of generated scenes (other seeds than the data sets)"
CLASSES = 20  # Cityscapes' 19 and everything else
IGNORED = 19


def pretrain(
    proxy: Proxy,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    size: int,
    steps: int,
    batch_size: int,
    base_lr: float,
    seed: int,
) -> tuple[dict[str, Tensor], float]:
    """Returns the checkpoint's tensors under published key names, and the mean loss of the last tenth of the steps.

    `images` is uint8 (N, H, W, 3), `labels` uint8 (N, H, W) with 255 for ignored; random windows of size x size pixels
    are cut from them. AdamW with a cosine from `base_lr`; the result depends on the arguments alone.
    """
    torch.manual_seed(seed)
    rng = np.random.Generator(np.random.PCG64(seed))
    count = max(1, round(len(images) * proxy.share))
    steps = max(1, round(steps * proxy.steps))
    model: ProxyTransformer | ProxyResNet
    model = ProxyTransformer(proxy, size) if proxy.encoder.startswith("t-") else ProxyResNet(proxy)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=base_lr, weight_decay=0.05)
    losses: list[float] = []
    for step in range(steps):
        warmup = min(1.0, (step + 1) / max(1, steps // 20))
        rate = base_lr * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = rng.integers(count, size=batch_size)
        batch, target = windows(images, labels, chosen, size, rng)
        loss = model.loss(normalise(torch.from_numpy(batch)), torch.from_numpy(target).long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    last = losses[-max(1, steps // 10) :]
    return model.published_tensors(), sum(last) / len(last)


def windows(
    images: np.ndarray, labels: np.ndarray, chosen: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns one random window of each chosen image, half of them mirrored: (B, size, size, 3) and (B, size, size)."""
    height, width = labels.shape[1:]
    batch = np.empty((len(chosen), size, size, 3), np.uint8)
    target = np.empty((len(chosen), size, size), np.uint8)
    for position, index in enumerate(chosen):
        top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
        place = np.s_[top : top + size, left : left + size]
        step = -1 if rng.random() < 0.5 else 1
        batch[position] = images[index][place][:, ::step]
        target[position] = labels[index][place][:, ::step]
    return batch, target


class ProxyTransformer(nn.Module):
    """A miniature ViT or DeiT with the classifiers of the proxy task."""

    def __init__(self, proxy: Proxy, image_size: int) -> None:
        """Build for square images of `image_size` pixels."""
        super().__init__()
        encoder_size = MINIATURES[proxy.encoder]
        width = encoder_size.embed_dim
        self.encoder = TappedVisionTransformer(
            encoder_size, (image_size, image_size), keep_class_token=True, last_tap=encoder_size.depth - 1
        )
        initialise_encoder(self.encoder, "authors")
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, CLASSES)
        self.distilled = proxy.distilled
        if proxy.distilled:
            self.dist_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
            self.dist_position = nn.Parameter(torch.randn(1, 1, width) * 0.02)
            self.head_dist = nn.Linear(width, CLASSES)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of both proxy tasks for normalised images (B, 3, H, W) and labels (B, H, W)."""
        x, (h, w) = self.encoder.embed(images)
        if self.distilled:
            token = (self.dist_token + self.dist_position).expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], token, x[:, 1:]], dim=1)
        for block in self.encoder.blocks:
            x = block(x)
        x = self.norm(x)
        shares = class_shares(labels, (h, w))
        present = (shares.amax(dim=(2, 3)) > 0).float()
        first_patch = 2 if self.distilled else 1
        loss = soft_cross_entropy(self.head(x[:, first_patch:]).transpose(1, 2).unflatten(2, (h, w)), shares)
        loss = loss + 0.5 * F.binary_cross_entropy_with_logits(self.head(x[:, 0]), present)
        if self.distilled:
            loss = loss + 0.5 * F.binary_cross_entropy_with_logits(self.head_dist(x[:, 1]), present)
        return loss

    def published_tensors(self) -> dict[str, Tensor]:
        """Returns the tensors under the keys of timm's ViT (or distilled ViT) checkpoints."""
        tensors = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        tensors |= {f"norm.{name}": value.clone() for name, value in self.norm.state_dict().items()}
        tensors |= {f"head.{name}": value.clone() for name, value in self.head.state_dict().items()}
        if self.distilled:
            tensors |= {f"head_dist.{name}": value.clone() for name, value in self.head_dist.state_dict().items()}
            table = tensors["pos_embed"]
            tensors["pos_embed"] = torch.cat([table[:, :1], self.dist_position.detach(), table[:, 1:]], dim=1)
            tensors["dist_token"] = self.dist_token.detach().clone()
        return tensors


class ProxyResNet(nn.Module):
    """A miniature ResNet with the classifier of the proxy task."""

    def __init__(self, proxy: Proxy) -> None:
        """Build the ResNet that the variant's miniature has: its stride decides how fine the map is."""
        super().__init__()
        variant = variant_spec(proxy.encoder, num_classes=CLASSES, crop_size=(96, 96), scale="miniature")
        spec = variant.cnn or variant.encoder
        assert isinstance(spec, ResNetSpec)
        self.encoder = ResNetEncoder(spec)
        self.fc = nn.Linear(spec.stage_channels[-1], CLASSES)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of the patch task for normalised images (B, 3, H, W) and labels (B, H, W)."""
        features = self.encoder(images, (3,))[0]
        logits = self.fc(features.movedim(1, -1)).movedim(-1, 1)
        return soft_cross_entropy(logits, class_shares(labels, (logits.shape[2], logits.shape[3])))

    def published_tensors(self) -> dict[str, Tensor]:
        """Returns the tensors under the keys of timm's ResNet checkpoints."""
        tensors = {name: value.clone() for name, value in self.encoder.body.state_dict().items()}
        return tensors | {f"fc.{name}": value.clone() for name, value in self.fc.state_dict().items()}


def class_shares(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns (B, CLASSES, h, w): the share of each class in every cell of the grid, for labels (B, H, W)."""
    labels = torch.where(labels >= IGNORED, IGNORED, labels)
    return F.adaptive_avg_pool2d(F.one_hot(labels, CLASSES).movedim(-1, 1).float(), grid)


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Returns the mean cross-entropy of logits (B, K, h, w) against shares that sum to one over the classes."""
    return -(shares * logits.log_softmax(dim=1)).sum(dim=1).mean()
