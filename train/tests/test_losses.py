"""Partly annotated batches: what is not annotated gives no loss and no gradient."""

import math

import pytest
import torch

from awsnet_train import UNKNOWN, Annotations, AwsNet, partial_loss, small
from awsnet_train.aws_unit import KINDS
from awsnet_train.losses import au_loss, emotion_loss

NAN = math.nan
EMOTIONS, AUS = ["calm", "glad"], ["AU1", "AU4", "AU12"]
IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
EMOTION_ONLY = Annotations(torch.tensor([0, 1, 1, 0]), torch.full((4, 3), NAN))
AU_ONLY = Annotations(torch.full((4,), UNKNOWN), torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, NAN, 0], [NAN, 1, 1]]))


def gradients(aws: str, annotations: Annotations) -> AwsNet:
    torch.manual_seed(0)
    network = small(EMOTIONS, AUS, size=16, widths=(4, 6, 8), aws=aws)
    partial_loss(network(IMAGES), annotations).backward()
    return network


def norm(module: torch.nn.Module) -> float:
    return sum(0.0 if p.grad is None else p.grad.abs().sum().item() for p in module.parameters())


@pytest.mark.parametrize("aws", KINDS)
@pytest.mark.parametrize(("annotations", "told"), [(EMOTION_ONLY, 0), (AU_ONLY, 1)], ids=["emotion only", "AUs only"])
def test_one_task_teaches_the_other_branch_through_the_units_but_not_the_other_head(aws, annotations, told):
    network = gradients(aws, annotations)
    heads, branches = list(network.heads().values()), (network.emotion, network.au)
    assert norm(heads[told]) > 0
    assert norm(heads[1 - told]) == 0
    assert norm(branches[told]) > norm(heads[told])
    assert norm(branches[1 - told]) > 0
    assert norm(network.aws) > 0


@pytest.mark.parametrize(("annotations", "told"), [(EMOTION_ONLY, 0), (AU_ONLY, 1)], ids=["emotion only", "AUs only"])
def test_without_units_nothing_reaches_the_other_branch(annotations, told):
    network = gradients("none", annotations)
    branches = (network.emotion, network.au)
    assert norm(branches[told]) > 0
    assert norm(branches[1 - told]) == 0


def test_a_mixed_batch_counts_each_annotation_once():
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.5], [-3.0, 1.0]])
    emotion = torch.tensor([0, UNKNOWN, 1])
    expected = (torch.log(torch.tensor(1 + math.exp(-3))) + torch.log(torch.tensor(1 + math.exp(-4)))) / 2
    torch.testing.assert_close(emotion_loss(logits, emotion), expected)

    au = torch.tensor([[1.0, NAN], [NAN, NAN], [0.0, 1.0]])
    by_hand = [math.log1p(math.exp(-2.0)), math.log1p(math.exp(-3.0)), math.log1p(math.exp(-1.0))]
    torch.testing.assert_close(au_loss(logits, au).item(), sum(by_hand) / 3)


def test_a_single_unknown_au_has_no_gradient():
    logits = torch.zeros(2, 3, requires_grad=True)
    au_loss(logits, torch.tensor([[1.0, NAN, 0.0], [NAN, NAN, 1.0]])).backward()
    assert logits.grad is not None
    assert (logits.grad == 0).tolist() == [[False, True, False], [True, True, False]]


def test_a_batch_without_any_annotation_has_loss_zero_and_no_nan():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = emotion_loss(logits, torch.full((2,), UNKNOWN)) + au_loss(logits, torch.full((2, 3), NAN))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0
