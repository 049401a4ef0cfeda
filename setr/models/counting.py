"""Sizes and costs of the models without building them in memory: parameters, the paper's way too, and GFLOPs."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from setr.models.decoders.table import decoder_with
from setr.models.segmenter import Segmenter, build_model
from setr.models.variants import ENCODERS

# mmsegmentation's base class gives every decode and auxiliary head a 1x1 convolution from 512 channels to the classes,
# which SETR's heads never call. The paper's numbers contain them; no model here builds them.
UNUSED_CHANNELS = 512


@dataclass(frozen=True)
class ModelCount:
    """What a model weighs and costs."""

    parameters: int  # that train, auxiliary heads included
    paper_parameters: int  # the paper's way: with the unused convolutions
    inference_parameters: int  # without auxiliary heads
    gflops: float  # of one image through encoder, neck and decode head; a multiply-add is two


def count_model(
    variant: str,
    *,
    num_classes: int,
    crop_size: tuple[int, int],
    scale: str = "paper",
    flavour: str = "authors",
) -> ModelCount:
    """Return the counts of a VARIANTS row for crops of H x W pixels; nothing is allocated (meta device)."""
    with torch.device("meta"):
        model = build_model(variant, num_classes=num_classes, crop_size=crop_size, scale=scale, flavour=flavour)
    return ModelCount(
        parameters=parameter_count(model),
        paper_parameters=paper_parameter_count(model),
        inference_parameters=parameter_count(model) - parameter_count(model.auxiliary_heads),
        gflops=gflops(model, crop_size),
    )


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters, BatchNorm's running statistics not among them."""
    return sum(parameter.numel() for parameter in module.parameters())


def paper_parameter_count(model: Segmenter) -> int:
    """Return the number of parameters as the paper's #Params counts them.

    Its columns hold the ADE20K models (150 classes, 512x512 crop) with auxiliary heads and, for each head of SETR,
    the unused 512 -> classes convolution.
    """
    heads = [model.spec.decoder, *model.spec.auxiliary]
    owners = sum(decoder_with(head).owns_unused_convolution for head in heads)
    unused = owners * (UNUSED_CHANNELS + 1) * model.num_classes
    return parameter_count(model) + unused


def gflops(model: Segmenter, image_size: tuple[int, int]) -> float:
    """Return 1e9 floating point operations of one image's logits, two per multiply-add.

    Matrix products, convolutions and attention are counted; norms, activations and resizes are not.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *image_size, device=device))
    model.train(was_training)
    return counter.get_total_flops() / 1e9


@dataclass(frozen=True)
class Reading:
    """One way to count Hybrid's parameters."""

    parameters: int
    meaning: str


def hybrid_readings() -> tuple[Reading, ...]:
    """Return Hybrid's parameters counted as every other model's, then the readings that meet the printed 112.59M.

    No configuration of Hybrid was released, and 0.39M of its printed number are unexplained. Of the readings that meet
    its digits these change least; neither is confirmed. For the first speaks that Hybrid saw Cityscapes alone.
    """
    with torch.device("meta"):
        ade20k = build_model("hybrid-base", num_classes=150, crop_size=(512, 512))
        cityscapes = build_model("hybrid-base", num_classes=19, crop_size=(512, 1024))
    width = ENCODERS["t-base"].embed_dim
    counted = paper_parameter_count(ade20k)
    return (
        Reading(counted, "as every other model: ADE20K, auxiliary heads, unused convolutions"),
        Reading(
            paper_parameter_count(cityscapes) + 2 * width,
            "Cityscapes instead: 19 classes, mmsegmentation's 512x1024 crop (32x64 positions), final LayerNorm kept",
        ),
        Reading(counted + 512 * width, "ADE20K and one more 512 x 768 matrix, such as an unused 1x1 convolution"),
    )
