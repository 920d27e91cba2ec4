"""The live kernel as a judge, for the tests that need a place of their own on it."""

import sys
from pathlib import Path

import bpfsim
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import sandbox  # noqa: E402


@pytest.fixture(scope="module")
def live():
    try:
        kernel = bpfsim.LiveKernel()
    except OSError as error:
        pytest.skip(f"the live kernel cannot be asked: {error}")
    if not kernel.release.startswith("6.18"):
        pytest.skip(f"the live kernel is {kernel.release}, not 6.18")
    if why := sandbox.unavailable():
        pytest.skip(why)
    return kernel.spawn("agree")
