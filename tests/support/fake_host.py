# SPDX-License-Identifier: Apache-2.0
"""A /proc and trees of control groups in a folder, as v1, v2 and hybrid hosts show them.

They are files: a limit reads what was written.  What only the kernel does (a mkdir that fails, a
process that dies) is tested with the kernel.  `Systemd` is a program that speaks systemctl's words.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.port import Kernel, PodGroup
from breakglass.agent.kernel.systemd import Systemctl

ID = "0123456789abcdef" * 4
UID = "12345678-1234-1234-1234-123456789abc"
STATIC_UID = "0123456789abcdef" * 2
PID = 4242
UNIFIED = ""
_FILES = {UNIFIED: ("cgroup.max.descendants",), "pids": ("pids.max",)}


class Host:
    """A machine with these trees; `top` is the group that is mounted, as in a container."""

    def __init__(self, root: Path, *, unified: bool, v1: bool, top: str = "/") -> None:
        self.root = root
        self.proc = root / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.systemd = Systemd(root / "bin")
        lines = ["22 1 0:21 / /proc rw - proc proc rw"]
        self.mounts: dict[str, Path] = {}
        if v1:
            for number, label in enumerate(("pids", "freezer", "name=systemd"), 30):
                mount = self.mounts[label] = root / "sys" / label.removeprefix("name=")
                options = f"rw,xattr,release_agent=/x,{label}" if "=" in label else f"rw,{label}"
                lines.append(
                    f"{number} 1 0:{number} {top} {mount} rw shared:9 - cgroup x {options}"
                )
        if unified:
            self.mounts[UNIFIED] = root / "sys" / "unified"
            lines.append(f"40 1 0:40 {top} {self.mounts['']} rw shared:11 - cgroup2 cgroup2 rw")
        for mount in self.mounts.values():
            mount.mkdir(parents=True)
        (self.proc / "self" / "mountinfo").write_text("\n".join(lines) + "\n")

    def group(self, path: str, *, trees: Iterable[str] | None = None) -> None:
        """Make a group in these trees, or in all, with the files that the kernel puts there."""
        chosen = self.mounts if trees is None else trees
        for label in chosen:
            directory = self.mounts[label]
            for part in path.strip("/").split("/"):
                directory /= part
                directory.mkdir(exist_ok=True)
                (directory / "cgroup.procs").touch()
                names = _FILES.get(label, ())
                if label == UNIFIED and len(self.mounts) == 1:
                    names = (*names, "pids.max")
                for name in names:
                    if not (directory / name).exists():
                        (directory / name).write_text("max\n")

    def put_in(self, pid: int, path: str, *, name: str = "sh", parent: int = 1) -> None:
        """Let a process be in a group, in every tree."""
        self.group(path)
        lines = []
        for number, (label, mount) in enumerate(self.mounts.items(), 1):
            lines.append(f"{number if label else 0}:{label}:/{path.strip('/')}")
            with (mount / path.strip("/") / "cgroup.procs").open("a") as procs:
                procs.write(f"{pid}\n")
        own = self.proc / str(pid)
        own.mkdir(exist_ok=True)
        (own / "cgroup").write_text("\n".join(lines) + "\n")
        (own / "comm").write_text(f"{name}\n")
        (own / "stat").write_text(f"{pid} ({name}) S {parent} 0 0\n")

    def file(self, path: str, label: str, name: str) -> Path:
        """Return one file of a group."""
        return self.mounts[label] / path.strip("/") / name

    def kernel(self) -> Kernel:
        """Return the kernel as the agent sees it here."""
        return host_kernel(self.proc, systemctl=Systemctl(str(self.root / "bin")))

    def pod(self, path: str) -> PodGroup:
        """Make a pod's group and return it as the kernel finds it."""
        self.group(path)
        found = [one for one in self.kernel().groups.pod_groups() if path.strip("/") == one.path]
        assert len(found) == 1
        return found[0]


class Systemd:
    """What systemctl is asked, and answers: a program in a folder, and a file of its units.

    It accepts the calls that are used and no others, and writes down each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "units.json"

    def install(self, units: dict[str, dict[str, str]], *, fails: str = "") -> None:
        """Be there from now on; `fails` is what it says instead of every answer."""
        self.folder.mkdir(exist_ok=True)
        self._state.write_text(json.dumps({"units": units, "fails": fails, "calls": []}))
        program = self.folder / "systemctl"
        program.write_text(_SYSTEMCTL.format(python=sys.executable, state=str(self._state)))
        program.chmod(0o755)

    @property
    def units(self) -> dict[str, dict[str, str]]:
        """The units and their properties."""
        units: dict[str, dict[str, str]] = json.loads(self._state.read_text())["units"]
        return units

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call, and its environment's names at the end."""
        calls: list[list[str]] = json.loads(self._state.read_text())["calls"]
        return calls


_SYSTEMCTL = """#!{python} -IS
import json, os, sys
state = json.load(open({state!r}))
arguments = sys.argv[1:]
state["calls"].append([*arguments, ",".join(sorted(set(os.environ) - {{"LC_CTYPE"}}))])
units = state["units"]
assert arguments[:2] == ["--no-pager", "--no-ask-password"], arguments
verb, *rest = arguments[2:]
options, names = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
out, status = "", 0
if state["fails"]:
    sys.stderr.write(state["fails"])
    status = 1
elif verb == "show" and "--value" in options:
    wanted = options[0].removeprefix("--property=")
    out = units.get(names[0], {{}}).get(wanted, "") + "\\n"
elif verb == "show":
    shown = [f"Id={{name}}\\nSlice={{units.get(name, {{}}).get('Slice', '')}}\\n" for name in names]
    out = "\\n".join(shown)
elif verb == "set-property":
    assert options == ["--runtime"], options
    key, value = names[1].split("=")
    units.setdefault(names[0], {{}})[key] = value
    if units[names[0]].get("file"):
        text = "max" if value == "infinity" else value
        open(units[names[0]]["file"], "w").write(text + "\\n")
elif verb == "list-units":
    assert "--state=failed" in options, options
    failed = [name for name, unit in units.items() if unit.get("ActiveState") == "failed"]
    out = "".join(f"{{name}} loaded failed failed a container\\n" for name in failed)
elif verb == "reset-failed":
    for name in names:
        del units[name]
else:
    raise SystemExit("not a call that is used: " + verb)
json.dump(state, open({state!r}, "w"))
sys.stdout.write(out)
sys.exit(status)
"""
