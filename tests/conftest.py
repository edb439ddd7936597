import pytest
import torch
from hypothesis import settings

pytest.register_assert_rewrite("contract")
settings.register_profile("redraft", deadline=None)
settings.load_profile("redraft")
torch.set_num_threads(1)  # the models are tiny, and the workers of pytest -n share the cores
