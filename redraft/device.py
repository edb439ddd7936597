"""Where and how precisely a model computes."""

from typing import Literal

import torch

from redraft.records import InputError

__all__ = ["Precision", "configure_attention", "find_device", "use_half"]

Precision = Literal["auto", "float32", "bfloat16"]


def use_half(precision: Precision, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16; auto says yes where the processor multiplies in it."""
    if precision != "auto":
        return precision == "bfloat16"
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()


def find_device(name: str) -> torch.device:
    """The device of a name; raises InputError if it is not available on this machine."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(
            f"device {name!r}: not available on this machine; give cpu, or a device that torch has"
        ) from None
    return device


def configure_attention(device: torch.device) -> torch.device:
    """Keep this process from cuDNN's attention on a GPU, and return the device.

    It plans anew for every shape, and batches here have thousands.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device
