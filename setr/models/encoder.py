"""The SETR encoder: timm's VisionTransformer with its names, read at chosen layers and fed any image size.

Shapes: B images, C hidden size, H W pixels, h w patches. Layers are counted from 0 here: tap i is the output of
`blocks.i`, so the paper's Z^24 is tap 23.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from setr.errors import InputError
from setr.models.specification import EncoderSize

INITIALISATIONS = ("authors", "mmseg")


class PaddedPatchEmbed(PatchEmbed):
    """timm's patch embedding (`proj`) for any image size: zeros right and bottom fill the last patches."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, ceil(H / patch), ceil(W / patch)) for images (B, 3, H, W)."""
        rows, columns = self.patch_size
        if torch.compiler.is_exporting():
            # A fixed padding, of which the convolution ignores what it does not need: a remainder of the size would
            # tie the exported graph to sizes like the example's.
            return self.proj(F.pad(x, (0, columns - 1, 0, rows - 1)))
        missing_rows, missing_columns = -x.shape[-2] % rows, -x.shape[-1] % columns
        if missing_rows or missing_columns:
            x = F.pad(x, (0, missing_columns, 0, missing_rows))
        return self.proj(x)


def run_block(block: nn.Module, x: Tensor) -> Tensor:
    """Return a layer's output for its input, tokens (B, N, C)."""
    return block(x)


class TappedVisionTransformer(VisionTransformer):
    """A timm VisionTransformer without final norm and head, whose forward returns the layers asked for.

    The parameter names are timm's (`patch_embed.proj`, `cls_token`, `pos_embed`, `blocks.i...`). The class token
    goes through all layers and is dropped from what is returned, or, with `keep_class_token=False` (MLA), leaves
    before the first layer: then it has no effect, gets no gradient, and is kept for the checkpoint's sake.
    `grad_checkpointing` (timm's switch) recomputes each layer in the backward pass instead of keeping it;
    `run_training_block` runs a layer in train mode, and may be replaced by a compiled form of `run_block`.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter
    run_training_block: Callable[[nn.Module, Tensor], Tensor] = staticmethod(run_block)

    def __init__(
        self,
        size: EncoderSize,
        image_size: tuple[int, int],
        *,
        keep_class_token: bool,
        last_tap: int,
        drop_path: float = 0.0,
        resize_by_count: bool = False,
    ) -> None:
        """Build for `image_size` (H, W pixels, multiples of the patch); layers after `last_tap` are frozen."""
        for side in image_size:
            if side <= 0 or side % size.patch_size:
                raise InputError(
                    "E_CROP",
                    "crop_size is not a multiple of the patch",
                    where=f"crop_size {image_size[0]}x{image_size[1]}",
                    found=side,
                    expected=f"a positive multiple of {size.patch_size}",
                )
        super().__init__(
            img_size=image_size,
            patch_size=size.patch_size,
            embed_dim=size.embed_dim,
            depth=size.depth,
            num_heads=size.num_heads,
            mlp_ratio=size.mlp_ratio,
            num_classes=0,
            global_pool="",
            final_norm=False,
            drop_path_rate=drop_path,
            embed_layer=PaddedPatchEmbed,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            weight_init="skip",
        )
        self.size = size
        self.grid_size = (image_size[0] // size.patch_size, image_size[1] // size.patch_size)
        self.keep_class_token = keep_class_token
        # mmsegmentation resizes the table only when the number of patches differs, so a 32x128 image given to a
        # 64x64 model gets positions of the wrong rows. Off unless that very behaviour is wanted.
        self.resize_by_count = resize_by_count
        # Parameters that cannot get a gradient must not wait for one (DistributedDataParallel would).
        self.cls_token.requires_grad_(keep_class_token)
        for block in self.blocks[last_tap + 1 :]:
            block.requires_grad_(False)

    def forward(self, images: Tensor, taps: Sequence[int]) -> list[Tensor]:  # type: ignore[override]
        """Return the outputs (B, C, h, w) of the layers `taps`, in the order asked, for images (B, 3, H, W).

        Images are padded right and bottom with zeros (the mean colour) to whole patches: h = ceil(H / patch). The
        features are views of token order, so channels_last in memory. Only the layers up to the last tap run.
        """
        x, (h, w) = self.embed(images)
        prefix = int(self.keep_class_token)
        run = self.run_training_block if self.training else run_block
        outputs: dict[int, Tensor] = {}
        for index in range(max(taps) + 1):
            block = self.blocks[index]
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(run, block, x, use_reentrant=False)
            else:
                x = run(block, x)
            if index in taps:
                outputs[index] = x
        return [outputs[tap][:, prefix:].unflatten(1, (h, w)).permute(0, 3, 1, 2) for tap in taps]

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the tokens (B, [1 +] h*w, C) with their positions added, and the grid (h, w)."""
        patches = self.patch_embed(images)
        h, w = patches.shape[-2:]
        positions = self.positions(h, w)
        # Contiguous: every later sum would inherit the order of a channels-first map, and every LayerNorm copy it.
        x = patches.flatten(2).transpose(1, 2).contiguous() + positions[:, 1:]
        if self.keep_class_token:
            x = torch.cat([(self.cls_token + positions[:, :1]).expand(x.shape[0], -1, -1), x], dim=1)
        return x, (h, w)

    def positions(self, h: int, w: int) -> Tensor:
        """Return the position table (1, 1 + h*w, C) for a grid of h x w patches; entry 0 is the class token's."""
        return resize_positions(self.pos_embed, self.grid_size, (h, w), by_count=self.resize_by_count)


def resize_positions(
    table: Tensor, source: tuple[int, int], target: tuple[int, int], *, by_count: bool = False
) -> Tensor:
    """Return the table (1, 1 + h*w, C) of `target` patches from one of `source` patches, entry 0 untouched.

    Bilinear in two dimensions with align_corners False and no antialias, as the authors resize (helpers.py).
    `by_count` leaves the table alone when only the shape of the grid differs, as mmsegmentation does at run time.
    """
    # While exporting, h and w are symbols: comparing them would fix the image size for good.
    if not torch.compiler.is_exporting():
        same = source[0] * source[1] == target[0] * target[1] if by_count else source == target
        if same:
            return table
    grid = table[:, 1:].unflatten(1, source).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=target, mode="bilinear", align_corners=False)
    return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def initialise_encoder(encoder: TappedVisionTransformer, style: str) -> None:
    """Fill the encoder with random values: `authors` (vit.py, random_init) or `mmseg` (its init_weights).

    authors: Linear, position table and class token truncated normal 0.02, biases 0, convolutions as PyTorch makes
    them. mmseg: the same, but the MLP biases normal 1e-6, the joint query-key-value matrix Xavier uniform (it is no
    nn.Linear there) and the patch convolution Kaiming normal.
    """
    assert style in INITIALISATIONS
    nn.init.trunc_normal_(encoder.pos_embed, std=0.02)
    nn.init.trunc_normal_(encoder.cls_token, std=0.02)
    for name, module in encoder.blocks.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        joint = name.endswith("attn.qkv")
        if style == "mmseg" and joint:
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            if style == "mmseg" and ".mlp." in f".{name}":
                nn.init.normal_(module.bias, std=1e-6)
            else:
                nn.init.zeros_(module.bias)
    if style == "mmseg" and isinstance(encoder.patch_embed, PatchEmbed):
        nn.init.kaiming_normal_(encoder.patch_embed.proj.weight, mode="fan_in", nonlinearity="relu")
        if encoder.patch_embed.proj.bias is not None:
            nn.init.zeros_(encoder.patch_embed.proj.bias)
