# SPDX-License-Identifier: Apache-2.0
"""Make the configurations and manifests of the lab's Kubernetes, as text.

A node has its own `/run`, `/var/lib` and `/var/log` (`lab.kubernetes.node`), so nearly all paths
are those of a real node.  Two are not: the runtime's socket, by which the lab knows its own shims,
and the cgroup above a node's pods.

Kubernetes reads JSON, which is valid YAML; containerd reads TOML.
"""

import json
from pathlib import Path

PAUSE = "localhost/pause:1"
WITNESS = "localhost/witness:1"
NAMESPACE = "monitoring"
WITNESSED = "/var/lib/witness"
API_PORT = 6443
SERVICES = "10.94.0.0/24"
_PODS = "10.93.{number}.0/24"

# Each text is in the newest format that its containerd reads.  restrict_oom_score_adj: this process
# may not be allowed to lower an OOM score.  netns_mounts_under_state_dir: the pods' network
# namespaces must end with the node's mount namespace.
_CONTAINERD_2 = """version = 3
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd-opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{built}/cni"]
    conf_dir = "/var/lib/cni/net.d"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{built}/bin/runc"
      SystemdCgroup = false
"""
_CONTAINERD_1_7 = """version = 2
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{built}/cni"
    conf_dir = "/var/lib/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{built}/bin/runc"
      SystemdCgroup = false
"""
# kubelet sets these sysctls for the whole machine.  The lab bind-mounts files that already hold the
# values that kubelet wants, so kubelet writes nothing.
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


def containerd(version: str, *, socket: Path, built: Path) -> str:
    """Return config.toml for containerd version "2" or "1.7"."""
    text = _CONTAINERD_1_7 if version == "1.7" else _CONTAINERD_2
    return text.format(socket=socket, built=built, pause=PAUSE)


def network(number: int) -> str:
    """Return the CNI configuration of the node with this number: a veth pair to each pod."""
    addresses = {"type": "host-local", "subnet": _PODS.format(number=number)}
    wire = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    return json.dumps({"cniVersion": "1.0.0", "name": "lab", "plugins": [wire]})


def kubelet(*, socket: Path, cgroup: str, backoff_s: int | None, pids: int | None) -> str:
    """Return kubelet's configuration.

    Args:
        socket: the runtime's socket.
        cgroup: the cgroup below which kubelet makes the pods' cgroups.
        backoff_s: the longest back-off; kubelet's default of 300 s when left out.
        pids: the limit of processes that kubelet sets on each new pod; none when left out.
    """
    document: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # accept cgroup v1 and swap, and enforce no node allocatable limits
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": f"unix://{socket}",
        "staticPodPath": "/var/lib/kubelet/manifests",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "resolvConf": "",
        # do not write iptables rules or OOM scores, and do not evict pods for a full disk
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "evictionHard": {"memory.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "4s",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
    }
    if backoff_s is not None:
        document["crashLoopBackOff"] = {"maxContainerRestartPeriod": f"{backoff_s}s"}
    if pids is not None:
        document["podPidsLimit"] = pids
    return json.dumps(document, indent=1)


def kubeconfig(address: str, token: str) -> str:
    """Return the kubeconfig for all clients of the API server at `address`."""
    server = {"server": f"https://{address}:{API_PORT}", "insecure-skip-tls-verify": True}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": server}],
            "users": [{"name": "lab", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "current-context": "lab",
        }
    )


def daemonset(name: str, *, release: int = 1, flood: str | None = None) -> str:
    """Return the namespace and a DaemonSet of witnesses, on the host's network.

    The controller replaces a pod only when it is deleted (`OnDelete`), so that two revisions can
    run side by side.

    Args:
        name: the name of the DaemonSet, of its container, and of the file that its pods write.
        release: another number makes another revision.
        flood: the address of the API server that the pods flood; no flood when left out.
    """
    container = {
        "name": name,
        "image": WITNESS,
        "imagePullPolicy": "Never",
        "args": [f"/witness.d/{name}", *([flood, str(API_PORT)] if flood else [])],
        "env": [
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "RELEASE", "value": str(release)},
        ],
        "volumeMounts": [{"name": "witnessed", "mountPath": "/witness.d"}],
    }
    pod = {
        "hostNetwork": True,
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "witnessed", "hostPath": {"path": WITNESSED, "type": "Directory"}}],
    }
    row = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "updateStrategy": {"type": "OnDelete"},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [namespace, row]})
