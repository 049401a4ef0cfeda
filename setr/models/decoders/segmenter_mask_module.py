"""The module of Segmenter's mask transformer."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from setr.models.decoders.segmenter_mask import SegmenterMaskSpec


class SegmenterMaskHead(nn.Module):
    """Transformer layers over patches and, after them, one learned token per class; cosines of the two; LayerNorm.

    The class tokens are the weight of `classifier`: there is one per class, as in every classifier.
    """

    def __init__(self, spec: SegmenterMaskSpec, num_classes: int) -> None:
        super().__init__()
        read, width = spec.channels_in[-1], spec.channels
        self.final_norm = nn.LayerNorm(read, eps=spec.norm_eps) if spec.norm else nn.Identity()
        self.project = nn.Linear(read, width)
        self.classifier = nn.Embedding(num_classes, width)
        self.blocks = nn.ModuleList(
            Block(
                width,
                spec.heads,
                mlp_ratio=spec.mlp_ratio,
                qkv_bias=True,
                proj_drop=spec.dropout,
                attn_drop=spec.dropout,
                drop_path=spec.drop_path * index / max(1, spec.depth - 1),
                norm_layer=nn.LayerNorm,  # eps 1e-5, where timm's own has 1e-6
            )
            for index in range(spec.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.project_patches = nn.Linear(width, width, bias=False)
        self.project_classes = nn.Linear(width, width, bias=False)
        self.mask_norm = nn.LayerNorm(num_classes)
        self._initialise(spec.start)

    def _initialise(self, start: str) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if start == "repository":
            for matrix in (self.project_patches, self.project_classes):
                nn.init.normal_(matrix.weight, std=matrix.in_features**-0.5)

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h, w) at the last feature's resolution."""
        x = features[-1].permute(0, 2, 3, 1)
        batch, h, w, _ = x.shape
        patches = self.project(self.final_norm(x)).flatten(1, 2)
        classes = self.classifier.weight.to(patches.dtype).expand(batch, -1, -1)
        tokens = torch.cat([patches, classes], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        patches = F.normalize(self.project_patches(tokens[:, : h * w]), dim=-1)
        classes = F.normalize(self.project_classes(tokens[:, h * w :]), dim=-1)
        logits = self.mask_norm(patches @ classes.transpose(1, 2))
        return logits.unflatten(1, (h, w)).permute(0, 3, 1, 2)
