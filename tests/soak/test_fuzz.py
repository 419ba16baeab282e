"""`tests/input_pipeline/test_fuzz.py` for longer, with other cases."""

import pytest
from fuzzing import READERS, check

pytestmark = pytest.mark.soak
TIMES = 40


@pytest.mark.parametrize("name", READERS)
def test_files_from_strangers(name, tmp_path):
    check(name, READERS[name], TIMES * READERS[name], tmp_path)
