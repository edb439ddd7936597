import pytest
from hypothesis import settings

pytest.register_assert_rewrite("contract")
settings.register_profile("redraft", deadline=None)
settings.load_profile("redraft")
