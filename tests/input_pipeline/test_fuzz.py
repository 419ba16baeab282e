"""Files from strangers, a few for every reader; `tests/soak/test_fuzz.py` has thousands."""

import pytest
from fuzzing import READERS, check


@pytest.mark.parametrize("name", READERS)
def test_files_from_strangers(name, tmp_path):
    check(name, 0, READERS[name], tmp_path)
