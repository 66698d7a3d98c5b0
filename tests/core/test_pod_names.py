# SPDX-License-Identifier: Apache-2.0
"""Parse the names of pods' log directories and control groups; refuse other names."""

import pytest

from breakglass.core.pod_names import PodEvent, parse_pod_log_name, uid_of_group_name

UID = "12345678-1234-4123-8123-123456789abc"
HASH = "0123456789abcdef" * 2
ESCAPED = UID.replace("-", "_")


@pytest.mark.parametrize("uid", [UID, HASH])
@pytest.mark.parametrize("name", ["a", "telemetry-agent-x2b4z", "etcd-n1.example", "0.1"])
def test_a_folder_of_logs_tells_namespace_name_and_uid(name: str, uid: str) -> None:
    """A log directory's name is split into namespace, name and uid."""
    birth = parse_pod_log_name(f"kube-system_{name}_{uid}")
    assert birth == PodEvent(namespace="kube-system", name=name, uid=uid)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "_",
        UID,
        f"a_{UID}",
        f"_a_{UID}",
        f"a__{UID}",
        f"a_b_c_{UID}",
        f"A_b_{UID}",
        f"a.b_c_{UID}",
        f"a_-b_{UID}",
        f"a_b-_{UID}",
        f"a_b..c_{UID}",
        f"a_../b_{UID}",
        f"a_b_{UID.upper()}",
        f"a_b_{UID}\n",
        f" a_b_{UID}",
        f"a_b_{UID[:-1]}",
        f"a_b_{UID}0",
        f"a_b_{HASH[1:]}",
        f"a_b_{ESCAPED}",
        f"a_\u0661_{UID}",
        f"{'a' * 64}_b_{UID}",
        f"a_{'b' * 64}_{UID}",
        f"a_{'b.' * 200}b_{UID}",
        f"a_{'b' * 60}.{'c' * 63}.{'d' * 63}.{'e' * 63}_{UID}",
        "a_" * 1_000_000,
    ],
)
def test_any_other_folder_is_no_pods(text: str) -> None:
    """A name with wrong parts, letters or lengths is not a pod's."""
    assert parse_pod_log_name(text) is None


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        (f"pod{UID}", UID),
        (f"pod{HASH}", HASH),
        (f"kubepods-pod{ESCAPED}.slice", UID),
        (f"kubepods-burstable-pod{ESCAPED}.slice", UID),
        (f"kubepods-besteffort-pod{HASH}.slice", HASH),
        (f"my\\x2dnode-kubepods-burstable-pod{ESCAPED}.slice", UID),
    ],
)
def test_a_group_of_a_pod_tells_its_uid(name: str, uid: str) -> None:
    """The uid is read from the names of both drivers, and from a static pod's hash."""
    assert uid_of_group_name(name) == uid


@pytest.mark.parametrize(
    "name",
    [
        "",
        UID,
        "pod",
        "burstable",
        "kubepods-burstable.slice",
        f"pod{ESCAPED}",
        f"pod{UID}.slice",
        f"pod{ESCAPED}.slice",
        f"-pod{ESCAPED}.slice",
        f"kubepods-pod{UID}.slice",
        f"kubepods-pod{ESCAPED}.slice\n",
        f"kubepods-pod{ESCAPED}.scope",
        f"kubepods/x-pod{ESCAPED}.slice",
        f"pod{UID}x",
        f"xpod{UID}",
        f"cri-containerd-{HASH}{HASH}.scope",
        f"{'k' * 250}-pod{ESCAPED}.slice",
    ],
)
def test_any_other_group_is_no_pods(name: str) -> None:
    """Parents of pods' groups, containers' groups and similar names are not a pod's."""
    assert uid_of_group_name(name) is None
