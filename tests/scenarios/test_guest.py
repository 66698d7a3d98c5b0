# SPDX-License-Identifier: Apache-2.0
"""How the counts from the guest are parsed, without a guest."""

import pytest

from scenarios.guest.look import Gate, parse_look

PRINTED = """lines telemetry 7
failed telemetry RunContainerError
failed telemetry CreatePodSandboxError
failed telemetry-crun RunContainerError
gate kubepods-besteffort-podaa.slice 0 1
end
"""


def test_each_fact_is_counted_where_it_belongs() -> None:
    """A failed sandbox counts as an attempt and as a sandbox."""
    look = parse_look(PRINTED)
    assert look.lines == {"telemetry": 7}
    assert look.attempts == {"telemetry": 2, "telemetry-crun": 1}
    assert look.sandboxes == {"telemetry": 1, "telemetry-crun": 0}
    assert look.gates == {"kubepods-besteffort-podaa.slice": Gate(descendants="0", pids="1")}


def test_an_output_that_was_cut_off_is_refused() -> None:
    """Without its last lines the output would look like that of a node where no code runs."""
    with pytest.raises(AssertionError):
        parse_look(PRINTED.removesuffix("end\n"))
