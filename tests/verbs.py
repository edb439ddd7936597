"""Commands as tests give them."""

import pytest

from redraft import cli

__all__ = ["TINY", "run"]

TINY = ["--model.width", 16, "--model.embedding", 8, "--model.heads", 2, "--model.feed-forward", 16]
"""Flags of `train` that make a very small model."""


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, what was said on stdout and on stderr."""
    code = cli.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err
