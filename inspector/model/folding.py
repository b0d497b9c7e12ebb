"""BatchNorm folded into the convolution before it: the same function, in one operation instead of two."""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_Module = TypeVar("_Module", bound=nn.Module)


def fold_batch_norm(model: _Module) -> _Module:
    """A copy of `model`, in eval mode, with its BatchNorms folded.

    Pairs are found by the names that torchvision, timm and this package use (`conv1` with `bn1` and so on) and as
    neighbours in a `Sequential`; a BatchNorm found by neither stays, which changes nothing but speed.
    """
    folded = copy.deepcopy(model).eval()
    for part in folded.modules():
        names = [name for name, _ in part.named_children()]
        if isinstance(part, nn.Sequential):
            pairs = list(itertools.pairwise(names))
        else:
            pairs = [(name, name.replace("conv", "bn")) for name in names if name.startswith("conv")]
        for convolution, norm in pairs:
            _fold(part, convolution, norm)
    return folded


def _fold(part: nn.Module, convolution: str, norm: str) -> None:
    first, second = getattr(part, convolution), getattr(part, norm, None)
    if (
        not isinstance(first, nn.Conv2d | nn.ConvTranspose2d) or type(second) is not nn.BatchNorm2d
    ):  # a subclass may do more
        return
    transposed = isinstance(first, nn.ConvTranspose2d)
    if transposed and first.groups > 1:
        return  # torch's own fusion takes these weights for ungrouped ones
    setattr(part, convolution, fuse_conv_bn_eval(first, second, transpose=transposed))
    setattr(part, norm, nn.Identity())
