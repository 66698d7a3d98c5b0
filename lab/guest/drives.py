# SPDX-License-Identifier: Apache-2.0
"""Make a guest's two disks: a Debian root with a kernel, and a drive with the programs under test.

The root is Debian trixie (systemd 257, pure cgroup v2, crun).  mmdebstrap makes it once; it is kept
below `$BREAKGLASS_CACHE/guest` under a hash of everything that defines it.  The drive is made for
each run: Kubernetes and containerd as `lab/kubernetes/build.sh` built them, this project installed
by the same command as in README, and a folder that the caller gives.  The guest mounts the drive
read-only at `STAGE`, and the installed project at /opt/breakglass.

This module does not boot the guest: `lab.guest.machine` does.  It raises `LabUnavailable` for
whatever is missing or cannot be downloaded.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import LabUnavailable, nspawn

SUITE = "trixie"
PACKAGES = (
    "crun",
    "dbus",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "openssh-server",
    "procps",
    "python3-venv",
    "systemd",
    "systemd-sysv",
    "udev",
)
ADDRESS = "10.0.2.15"  # the address that QEMU's user network gives its first guest
GATEWAY = "10.0.2.2"
STAGE = "/stage"
INSTALLED = "/opt/breakglass"
_ROOT_SIZE = "4G"
_STAGE_SIZE = "1G"
_MODULES = ("virtio_pci", "virtio_blk", "ext4")
# The guest must not wait for a network, and no timer may start work in the middle of a test.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
)
_TOOLS = ("mmdebstrap", "mke2fs", "ssh-keygen", "qemu-system-x86_64", "unshare", "nsenter", "ssh")
_FILES = {
    "etc/fstab": (
        "/dev/vda / ext4 rw,noatime 0 1\n"
        f"/dev/vdb {STAGE} ext4 ro 0 0\n"
        f"{STAGE}/breakglass {INSTALLED} none bind,ro,x-systemd.requires-mounts-for={STAGE} 0 0\n"
    ),
    "etc/hostname": "n1\n",
    "etc/resolv.conf": "",
    "etc/initramfs-tools/conf.d/small": "MODULES=list\n",
    "etc/ssh/sshd_config.d/lab.conf": "UseDNS no\nPermitRootLogin yes\n",
    "etc/systemd/network/10-eth0.network": (
        f"[Match]\nName=eth0\n[Network]\nAddress={ADDRESS}/24\nGateway={GATEWAY}\nDHCP=no\n"
    ),
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=persistent\nRateLimitBurst=0\n",
}
_MADE_S = 900.0
_STEP_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A bootable root: an image, its kernel and initrd, its files as a folder, and an SSH key."""

    folder: Path

    @property
    def image(self) -> Path:
        """The ext4 image; a guest writes to a temporary copy of it."""
        return self.folder / "root.ext4"

    @property
    def tree(self) -> Path:
        """The same files as a folder: the guest's own Python runs from it at native speed."""
        return self.folder / "tree"

    @property
    def key(self) -> Path:
        """The private SSH key for root on the guest."""
        return self.folder / "key"

    def boot(self, name: str) -> Path:
        """Return the kernel ("vmlinuz") or initrd ("initrd.img") in the root's /boot."""
        return max((self.tree / "boot").glob(f"{name}-*"))


def why_not() -> str:
    """Return why this machine cannot make a guest; empty when nothing is known to be missing."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else ""


def cache() -> Path:
    """Return the folder for everything that takes long to make."""
    return Path(os.environ.get("BREAKGLASS_CACHE") or Path.home() / ".cache/breakglass")


def root() -> Root:
    """Return the guest's root; make it first if it does not exist (one process at a time).

    Raises:
        LabUnavailable: something is missing, or cannot be downloaded.
    """
    if reason := why_not():
        raise LabUnavailable(reason)
    recipe = repr((SUITE, PACKAGES, _MODULES, _MASKED, _ROOT_SIZE, sorted(_FILES.items())))
    guests = cache() / "guest"
    kept = guests / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    guests.mkdir(parents=True, exist_ok=True)
    with (guests / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.is_dir():
            with tempfile.TemporaryDirectory(dir=guests, prefix="new-") as scratch:
                made = Path(scratch) / "root"
                made.mkdir()
                _make_root(made)
                made.rename(kept)
    return Root(folder=kept)


def make_stage(image: Path, *, base: Root, kubernetes: Path, extra: Path) -> None:
    """Write the drive with the programs under test.

    Args:
        image: the file to write.
        base: the guest's root, whose Python installs the project.
        kubernetes: the folder that `lab/kubernetes/build.sh` made.
        extra: a folder that becomes `STAGE`/extra.

    Raises:
        LabUnavailable: the wheels cannot be downloaded or installed.
    """
    with tempfile.TemporaryDirectory(dir=image.parent) as scratch:
        stage = Path(scratch)
        stage.chmod(0o755)
        for part in ("bin", "containerd", "cni"):
            shutil.copytree(kubernetes / part, stage / part, symlinks=True)
        shutil.copytree(extra, stage / "extra")
        (stage / "breakglass").mkdir()
        _install(base, stage / "breakglass")
        nspawn.step(("mke2fs", "-q", "-t", "ext4", "-d", stage, image, _STAGE_SIZE))


def _make_root(folder: Path) -> None:
    mirror, _ = nspawn.mirror()
    files = folder / "files"
    for name, text in _FILES.items():
        path = files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (files / "etc/initramfs-tools/modules").write_text("\n".join(_MODULES) + "\n")
    for point in (STAGE, INSTALLED):
        (files / point[1:]).mkdir(parents=True)
    units = files / "etc/systemd/system"
    units.mkdir()
    for unit in _MASKED:
        (units / unit).symlink_to("/dev/null")
    nspawn.step(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"))
    authorized = files / "root/.ssh/authorized_keys"
    authorized.parent.mkdir(parents=True)
    shutil.copy(folder / "key.pub", authorized)
    choice = ("--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}")
    put = f'cp -RT --no-preserve=ownership {shlex.quote(str(files))} "$1"'
    hooks = (f"--essential-hook={put}", f"--customize-hook={put}")
    networkd = '--customize-hook=chroot "$1" systemctl enable systemd-networkd'
    tree = folder / "tree"
    nspawn.step(("mmdebstrap", *choice, *hooks, networkd, SUITE, tree, mirror), timeout_s=_MADE_S)
    nspawn.step(
        ("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", tree, folder / "root.ext4", _ROOT_SIZE)
    )


def _install(base: Root, folder: Path) -> None:
    """Install this project into `folder` as README says, with the guest's own Python."""
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch) / "wheels"
        shutil.copytree(nspawn.wheels(nspawn.python_version(base.folder)), wheels)
        nspawn.make_own_wheel(wheels)
        target = shlex.quote(str(base.tree))
        pip = f"{INSTALLED}/bin/pip install --quiet --no-index --find-links wheels breakglass"
        inside = f"cd /mnt && python3 -m venv {INSTALLED} && {pip}"
        commands = (
            # unshare makes a private mount namespace, so no mount stays behind after a failure.
            f"mount -t tmpfs none {target}/mnt",
            f"mkdir {target}/mnt/wheels",
            f"mount --bind {shlex.quote(str(wheels))} {target}/mnt/wheels",
            f"mount --bind {shlex.quote(str(folder))} {target}{INSTALLED}",
            f"mount -t proc proc {target}/proc",
            f"chroot {target} env -i PATH=/usr/bin:/bin sh -ec '{inside}'",
        )
        nspawn.step(("unshare", "--mount", "sh", "-ec", "\n".join(commands)), timeout_s=_STEP_S)
