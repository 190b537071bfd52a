"""What all tests share: one thread, and hypothesis without a stopwatch."""

import torch
from hypothesis import settings

# Small tensors gain nothing from a second thread, and lose much where cores are shared.
torch.set_num_threads(1)

settings.register_profile("holobeam", deadline=None, max_examples=30, print_blob=True)
settings.load_profile("holobeam")
