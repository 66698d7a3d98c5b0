# SPDX-License-Identifier: Apache-2.0
"""Find a pod's DaemonSet by real and misleading names and labels; join the runtime's lists."""

import pytest

from breakglass.core.pods import (
    Container,
    ContainerState,
    ListedContainer,
    Pod,
    Workload,
    belongs,
    identify,
    is_protected,
    join_pods,
)

REVISION = "fc555b4c5"
DAEMONSET = (("controller-revision-hash", REVISION), ("pod-template-generation", "1"))
FROM_API = (("kubernetes.io/config.source", "api"),)


def pod_of(
    name: str,
    *,
    namespace: str = "default",
    labels: tuple[tuple[str, str], ...] = DAEMONSET,
    annotations: tuple[tuple[str, str], ...] = FROM_API,
) -> Pod:
    """Return a pod with the labels and annotations that kubelet puts on its sandbox."""
    return Pod(
        uid="u",
        name=name,
        namespace=namespace,
        sandbox_id="ab" * 32,
        labels=labels,
        annotations=annotations,
    )


@pytest.mark.parametrize(
    ("name", "daemonset", "exact"),
    [
        ("telemetry-56hr6", "telemetry", True),
        ("telemetry-agent-ksl6k", "telemetry-agent", True),
        ("telemetry-56hr6-ksl6k", "telemetry-56hr6", True),
        ("a.b-kwbrj", "a.b", True),
        ("a" * 57 + "-kwbrj", "a" * 57 + "-", False),
        ("b" * 58 + "6nkk4", "b" * 58, False),
        ("c" * 58 + "9qqgw", "c" * 58, False),
    ],
)
def test_a_name_tells_its_daemonset(name: str, daemonset: str, *, exact: bool) -> None:
    """A name of up to 57 characters is exact; of a longer one the pod's name has 58."""
    identity = identify(pod_of(name))
    assert (identity.daemonset, identity.exact) == (daemonset, exact)
    assert (identity.revision, identity.why_not) == (REVISION, "")


@pytest.mark.parametrize(
    ("pod", "why_not"),
    [
        (pod_of("web-56hr6", annotations=()), "config source unknown"),
        (
            pod_of("web-node1", annotations=(("kubernetes.io/config.source", "file"),)),
            "config source file",
        ),
        (pod_of("web-56hr6", labels=(*DAEMONSET, ("pod-template-hash", "x"))), "a Deployment"),
        (
            pod_of("web-0", labels=(("statefulset.kubernetes.io/pod-name", "web-0"),)),
            "a StatefulSet",
        ),
        (pod_of("web-0", labels=(("apps.kubernetes.io/pod-index", "0"),)), "a StatefulSet"),
        (pod_of("web-56hr6", labels=(("batch.kubernetes.io/job-name", "web"),)), "a Job"),
        (pod_of("web-56hr6", labels=(("job-name", "web"),)), "a Job"),
        (pod_of("web-56hr6", labels=()), "no label controller-revision-hash"),
        (
            pod_of("web-56hr6", labels=(("controller-revision-hash", f"web-{REVISION}"),)),
            "not a bare hash",
        ),
        (pod_of("web-56hr1"), "does not end"),
        (pod_of("web-56h"), "does not end"),
        (pod_of("web56hr6"), "does not end"),
        (pod_of("-56hr6"), "does not end"),
        (pod_of("56hr6"), "does not end"),
        (pod_of(""), "does not end"),
        (pod_of("d" * 59 + "56hr6"), "does not end"),
    ],
)
def test_what_is_no_daemonsets_pod_says_why(pod: Pod, why_not: str) -> None:
    """Static pods, bare pods and other controllers' pods each have their reason."""
    identity = identify(pod)
    assert (identity.daemonset, identity.revision, identity.exact) == (None, None, False)
    assert why_not in identity.why_not
    assert not belongs(pod, Workload(namespace="default", name="web")).member


def test_a_prefix_of_a_name_is_another_daemonset() -> None:
    """A command for "telemetry" never selects "telemetry-agent", nor the reverse."""
    telemetry = Workload(namespace="default", name="telemetry")
    agent = Workload(namespace="default", name="telemetry-agent")
    lookalike = Workload(namespace="default", name="telemetry-56hr6")
    assert belongs(pod_of("telemetry-56hr6"), telemetry).member
    assert not belongs(pod_of("telemetry-agent-ksl6k"), telemetry).member
    assert belongs(pod_of("telemetry-agent-ksl6k"), agent).member
    assert not belongs(pod_of("telemetry-56hr6"), lookalike).member


def test_a_namespace_is_part_of_the_name() -> None:
    """A DaemonSet of the same name in another namespace is another workload."""
    verdict = belongs(
        pod_of("web-56hr6", namespace="other"), Workload(namespace="default", name="web")
    )
    assert (verdict.member, verdict.reason) == (False, "in namespace other")


def test_a_revision_narrows_the_workload() -> None:
    """A workload with a revision does not include pods of another revision."""
    pod = pod_of("web-56hr6")
    bad = Workload(namespace="default", name="web", revision=REVISION)
    fixed = Workload(namespace="default", name="web", revision="9c8d7f6b5")
    assert belongs(pod, bad).member
    assert belongs(pod, fixed).reason == f"of revision {REVISION}"


@pytest.mark.parametrize("name", ["b" * 58, "b" * 58 + "-more"])
def test_a_long_name_is_matched_as_far_as_a_pods_name_goes(name: str) -> None:
    """From 58 characters on the name is not sufficient: `exact` is false."""
    verdict = belongs(pod_of("b" * 58 + "6nkk4"), Workload(namespace="default", name=name))
    assert (verdict.member, verdict.exact) == (True, False)


def test_a_name_of_57_characters_is_exact() -> None:
    """With 57 characters the dash is still in the pod's name."""
    workload = Workload(namespace="default", name="a" * 57)
    verdict = belongs(pod_of("a" * 57 + "-kwbrj"), workload)
    assert (verdict.member, verdict.exact) == (True, True)


def test_belonging_is_no_condition() -> None:
    """`bool(belongs(...))` raises TypeError."""
    with pytest.raises(TypeError):
        bool(belongs(pod_of("web-56hr6"), Workload(namespace="default", name="web")))


@pytest.mark.parametrize(
    ("workload", "protected"),
    [
        ("kube-system/kube-proxy", True),
        ("kube-system/cilium", True),
        ("kube-system/cilium-envoy", True),
        ("storage/anything", True),
        ("kube-system/kube-proxy2", False),
        ("default/kube-proxy", False),
        ("kube-system2/cilium", False),
    ],
)
def test_the_owners_patterns_protect(workload: str, *, protected: bool) -> None:
    """A star matches any run inside its part, and never the slash."""
    patterns = ("kube-system/kube-proxy", "kube-system/cilium*", "storage/*")
    assert is_protected(workload, patterns) is protected


@pytest.mark.parametrize(
    ("state", "live"),
    [
        (ContainerState.CREATED, True),
        (ContainerState.RUNNING, True),
        (ContainerState.UNKNOWN, True),
        (ContainerState.EXITED, False),
    ],
)
def test_only_what_has_exited_is_not_live(state: ContainerState, *, live: bool) -> None:
    """A container that may run or may still start is live."""
    assert listed("1", state=state).container.live is live


def listed(
    digit: str,
    *,
    sandbox: str = "a",
    state: ContainerState = ContainerState.RUNNING,
    uid: str = "u",
) -> ListedContainer:
    """Return a container as a runtime lists it."""
    return ListedContainer(
        container=Container(id=digit * 64, name="c0", state=state),
        sandbox_id=sandbox * 64,
        uid=uid,
        name="web-56hr6",
        namespace="default",
    )


def sandbox(digit: str, *, attempt: int = 0, created_ns: int = 0, uid: str = "u") -> Pod:
    """Return a sandbox as a runtime lists it."""
    return Pod(
        uid=uid,
        name="web-56hr6",
        namespace="default",
        sandbox_id=digit * 64,
        attempt=attempt,
        created_ns=created_ns,
        labels=DAEMONSET,
        annotations=FROM_API,
    )


def test_containers_are_joined_to_their_pod() -> None:
    """Each pod has its own containers; a pod without containers is listed too."""
    pods = join_pods(
        [sandbox("a"), sandbox("b", uid="v", created_ns=1)], [listed("1"), listed("2")]
    )
    assert [(pod.uid, len(pod.containers), pod.live) for pod in pods] == [
        ("u", 2, True),
        ("v", 0, False),
    ]


def test_the_newest_sandbox_stands_for_a_pod_with_all_its_containers() -> None:
    """An application that outlived its sandbox's pause process still belongs to its pod."""
    sandboxes = [
        sandbox("b", attempt=1, created_ns=5),
        sandbox("a"),
        sandbox("c", attempt=1, created_ns=7),
    ]
    (pod,) = join_pods(sandboxes, [listed("1", sandbox="a"), listed("2", sandbox="c")])
    assert (pod.sandbox_id, pod.attempt) == ("c" * 64, 1)
    assert [one.id[0] for one in pod.containers] == ["1", "2"]


def test_a_container_without_its_sandbox_is_not_lost() -> None:
    """It joins its listed pod, or becomes a pod without labels."""
    (pod,) = join_pods([sandbox("a")], [listed("1", sandbox="f")])
    assert [one.id[0] for one in pod.containers] == ["1"]
    (orphan,) = join_pods([], [listed("1", sandbox="f"), listed("2", sandbox="f")])
    assert (orphan.name, orphan.sandbox_id, len(orphan.containers)) == ("web-56hr6", "f" * 64, 2)
    assert identify(orphan).daemonset is None


def test_labels_and_annotations_are_read_by_key() -> None:
    """An absent key gives None."""
    pod = sandbox("a")
    assert pod.label("controller-revision-hash") == REVISION
    assert pod.label("app") is None
    assert pod.annotation("kubernetes.io/config.source") == "api"
    assert pod.annotation("x") is None


def test_a_pod_known_by_name_proves_nothing_by_its_labels() -> None:
    """A pod that the runtime never listed has no sandbox and perhaps no name."""
    pod = Pod.known_by_name(uid="u", namespace="default", name="telemetry-x2b4z")
    assert (pod.by_name, pod.sandbox_id, pod.live) == (True, "", False)
    assert not identify(pod).daemonset
    assert (Pod.known_by_name(uid="u").namespace, Pod.known_by_name(uid="u").name) == ("", "")
