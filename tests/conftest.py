"""What all tests share: one thread, hypothesis without a stopwatch, the command line."""

import sys

import pytest
import torch
from hypothesis import settings

# Small tensors gain nothing from a second thread, and lose much where cores are shared.
torch.set_num_threads(1)

settings.register_profile("holobeam", deadline=None, max_examples=30, print_blob=True)
settings.load_profile("holobeam")


@pytest.fixture
def holobeam(monkeypatch, capsys):
    """Run the command line in this process; returns (exit code, stdout, stderr)."""
    from holobeam import cli

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["holobeam", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
