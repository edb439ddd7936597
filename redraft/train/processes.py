"""One process or many by the same command."""

import torch
from accelerate import Accelerator

from redraft.device import configure_attention

__all__ = ["join_processes"]


def join_processes() -> Accelerator:
    """The accelerator of this process; all processes that torchrun started share the work, on CPUs too.

    Left to itself, accelerate joins processes on the CPU only when `accelerate launch --cpu` started them.
    """
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    configure_attention(accelerator.device)
    return accelerator
