import math

import pytest
import torch
import torch.nn.functional as F

from setr.errors import InputError
from setr.training.loss import class_weights, loss_divisor, segmentation_loss, strips_win


def problem(*, classes=5, low=(4, 6), size=(16, 24), batch=2, ignored=0.2, dtype=torch.float32, spread=2.0):
    generator = torch.Generator().manual_seed(classes + size[0])
    logits = torch.randn(batch, classes, *low, generator=generator, dtype=dtype) * spread
    labels = torch.randint(0, classes, (batch, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits, labels.to(torch.uint8)


def plain(logits, labels, *, align_corners=False, denominator="all", weight=None):
    upsampled = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=align_corners)
    reduction = "mean" if denominator == "valid" else "sum"
    loss = F.cross_entropy(upsampled, labels.long(), ignore_index=255, reduction=reduction, weight=weight)
    return loss if denominator == "valid" else loss / labels.numel()


def with_gradient(loss_of, logits):
    logits = logits.clone().requires_grad_()
    loss = loss_of(logits)
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("denominator", ["all", "valid"])
@pytest.mark.parametrize(
    ("classes", "low", "size"),
    [
        (5, (4, 6), (16, 24)),
        (150, (8, 8), (128, 128)),
        (19, (12, 10), (48, 45)),
        (7, (5, 7), (5, 7)),
        (3, (1, 1), (9, 4)),
    ],
)
def test_both_formulations_equal_upsample_then_cross_entropy(classes, low, size, denominator, align_corners):
    logits, labels = problem(classes=classes, low=low, size=size)
    options = {"denominator": denominator, "align_corners": align_corners}
    wanted, wanted_gradient = with_gradient(lambda x: plain(x, labels, **options), logits)
    for strips in (True, False):
        loss, gradient = with_gradient(lambda x, s=strips: segmentation_loss(x, labels, strips=s, **options), logits)
        torch.testing.assert_close(loss, wanted, rtol=2e-6, atol=0)
        torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-5, atol=2e-6 * float(wanted_gradient.abs().max()))


@pytest.mark.parametrize("align_corners", [False, True])
def test_strips_pass_gradcheck_in_float64(align_corners):
    logits, labels = problem(classes=3, low=(3, 4), size=(10, 9), batch=1, dtype=torch.float64)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: segmentation_loss(x, labels, strips=True, align_corners=align_corners, class_weights=weights),
        logits.requires_grad_(),
    )


def test_strips_agree_to_float64_rounding_over_many_strips_and_columns():
    logits, labels = problem(classes=150, low=(16, 40), size=(256, 160), batch=1, dtype=torch.float64)
    wanted, wanted_gradient = with_gradient(lambda x: plain(x, labels), logits)
    loss, gradient = with_gradient(lambda x: segmentation_loss(x, labels, strips=True), logits)
    torch.testing.assert_close(loss, wanted, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-9, atol=1e-15)


def test_confident_neighbours_that_disagree_do_not_underflow():
    logits = torch.full((1, 3, 1, 2), -500.0)
    logits[0, 0, 0, 0] = logits[0, 1, 0, 1] = 500.0  # halfway between them every exponential is exp(-500) or less
    labels = torch.tensor([[[0, 0, 1, 1, 2, 0, 1, 255]]], dtype=torch.uint8)
    wanted, wanted_gradient = with_gradient(lambda x: plain(x, labels), logits)
    loss, gradient = with_gradient(lambda x: segmentation_loss(x, labels, strips=True), logits)
    assert math.isfinite(float(loss))
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(gradient, wanted_gradient)


@pytest.mark.parametrize("denominator", ["all", "valid"])
def test_class_weights_in_both_formulations(denominator):
    logits, labels = problem(classes=5)
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    wanted, wanted_gradient = with_gradient(lambda x: plain(x, labels, denominator=denominator, weight=weights), logits)
    for strips in (True, False):
        loss, gradient = with_gradient(
            lambda x, s=strips: segmentation_loss(x, labels, strips=s, class_weights=weights, denominator=denominator),
            logits,
        )
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("strips", [True, False])
def test_bfloat16_logits_under_autocast_are_computed_in_float32(strips):
    logits, labels = problem(classes=40, low=(8, 8), size=(64, 64))
    rounded = logits.bfloat16()
    wanted = segmentation_loss(rounded.float(), labels, strips=strips)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = segmentation_loss(rounded.requires_grad_(), labels, strips=strips)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach(), wanted, rtol=0, atol=0)
    assert rounded.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("denominator", ["all", "valid"])
@pytest.mark.parametrize("options", [{"strips": True}, {"strips": False}, {"ohem_threshold": 0.7}])
def test_batch_without_a_label_has_loss_and_gradient_zero(options, denominator):
    logits, labels = problem()
    loss, gradient = with_gradient(
        lambda x: segmentation_loss(x, torch.full_like(labels, 255), denominator=denominator, **options), logits
    )
    assert float(loss) == 0
    assert not gradient.any()


@pytest.mark.parametrize("strips", [True, False])
def test_parts_divided_by_the_whole_add_up_to_the_whole(strips):
    logits, labels = problem(batch=4)
    labels[0, :5] = 255
    whole = segmentation_loss(logits, labels, denominator="valid", strips=strips)
    divisor = loss_divisor(labels, denominator="valid")
    parts = sum(
        segmentation_loss(logits[i : i + 1], labels[i : i + 1], strips=strips, divisor=divisor) for i in range(4)
    )
    torch.testing.assert_close(parts, whole)


def test_ohem_keeps_improbable_pixels_and_at_least_a_sixteenth():
    logits, labels = problem(classes=4, batch=1, ignored=0.3)
    upsampled = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear")
    losses = F.cross_entropy(upsampled, labels.long(), ignore_index=255, reduction="none")
    valid = labels != 255
    hard = valid & (losses.neg().exp() < 0.3)
    wanted = losses[hard].mean()
    torch.testing.assert_close(segmentation_loss(logits, labels, ohem_threshold=0.3, denominator="valid"), wanted)
    torch.testing.assert_close(
        segmentation_loss(logits, labels, ohem_threshold=0.3), losses[hard].sum() / labels.numel()
    )
    fewest = losses[valid].topk(math.ceil(int(valid.sum()) / 16)).values.mean()
    torch.testing.assert_close(segmentation_loss(logits, labels, ohem_threshold=1e-30, denominator="valid"), fewest)


def test_class_weights_from_a_histogram():
    assert class_weights("none", [1, 2]) is None
    torch.testing.assert_close(class_weights("median_frequency", [10, 40, 0, 20]), torch.tensor([2.0, 0.5, 1.0, 1.0]))
    found = class_weights("inverse_sqrt", [1, 4, 0])
    torch.testing.assert_close(found, torch.tensor([4 / 3, 2 / 3, 1.0]))
    with pytest.raises(InputError, match="none in the histogram"):
        class_weights("median_frequency", [0, 0])


def test_strips_are_chosen_where_logits_are_upsampled():
    logits, labels = problem(classes=150, low=(4, 4), size=(64, 64))
    assert strips_win(logits, labels)
    assert not strips_win(*problem(classes=150, low=(64, 64), size=(64, 64)))


def test_label_outside_the_classes_is_named():
    logits, labels = problem(classes=5)
    labels[0, 0, 0] = 200
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*found 200, expected 0 to 4"):
        segmentation_loss(logits, labels)
    with pytest.raises(InputError, match="E_LOSS_SHAPE"):
        segmentation_loss(logits, labels[:1])
