# SPDX-License-Identifier: Apache-2.0
"""How the guest's own account of itself is read, without a guest."""

import pytest

from scenarios.guest.look import Gate, parse_look

SAID = """lines telemetry 7
failed telemetry RunContainerError
failed telemetry CreatePodSandboxError
failed telemetry-crun RunContainerError
gate kubepods-besteffort-podaa.slice 0 1
end
"""


def test_each_fact_is_counted_where_it_belongs() -> None:
    """A sandbox that could not be made is an attempt, and a sandbox."""
    look = parse_look(SAID)
    assert look.lines == {"telemetry": 7}
    assert look.attempts == {"telemetry": 2, "telemetry-crun": 1}
    assert look.sandboxes == {"telemetry": 1, "telemetry-crun": 0}
    assert look.gates == {"kubepods-besteffort-podaa.slice": Gate(descendants="0", pids="1")}


def test_half_an_account_is_none() -> None:
    """A script that was cut off must not be taken for a quiet node."""
    with pytest.raises(AssertionError):
        parse_look(SAID.removesuffix("end\n"))
