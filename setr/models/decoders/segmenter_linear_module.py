"""The module of Segmenter's linear decoder."""

from collections.abc import Sequence

from torch import Tensor, nn

from setr.models.decoders.segmenter_linear import SegmenterLinearSpec


class SegmenterLinearHead(nn.Module):
    """LayerNorm and a linear layer over the channels."""

    def __init__(self, spec: SegmenterLinearSpec, num_classes: int) -> None:
        super().__init__()
        width = spec.channels_in[-1]
        self.final_norm = nn.LayerNorm(width, eps=spec.norm_eps) if spec.norm else nn.Identity()
        self.classifier = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h, w) at the last feature's resolution."""
        tokens = features[-1].permute(0, 2, 3, 1)
        return self.classifier(self.final_norm(tokens)).permute(0, 3, 1, 2)
