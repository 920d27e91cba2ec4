"""What every Python test is held to: the machines that it made can be done again, call by call, to the same state.

A new way into a machine that is not a door of Kernel, or a door that captures more than values, fails here. A test
whose machine's history has to end says so: ``@pytest.mark.history_ends``.
"""

import bpfsim
import pytest

_boot = bpfsim.Kernel.__init__
_KEPT = 8  # machines of a test that makes many are looked at in turn, not all at its end


def _check(kernel, may_end):
    if not kernel.keeps_history:
        return
    history = kernel.history
    if may_end and history.ended:
        return
    wrong = history.check()
    assert not wrong, f"{wrong}\n{history!r}"


@pytest.fixture(autouse=True)
def machines_are_done_again(request, monkeypatch):
    made, may_end = [], request.node.get_closest_marker("history_ends") is not None

    def boot(self, *args, **kwargs):
        _boot(self, *args, **kwargs)
        made.append(self)
        if len(made) > _KEPT:
            _check(made.pop(0), may_end)

    monkeypatch.setattr(bpfsim.Kernel, "__init__", boot)
    yield
    for kernel in made:
        _check(kernel, may_end)
