# SPDX-License-Identifier: Apache-2.0
"""The agent's settings: `agent.toml`, read strictly.

Every key is known, nothing unknown is ignored, addresses are IP literals (the agent never resolves
a name), and relative paths start at the file's own folder.  Loading reads the file and nothing
else; `read_identity` reads the keys and the trust.
"""

import ipaddress
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from breakglass.core import bounds, names
from breakglass.core.canonical import Fields
from breakglass.core.targets import parse_pattern
from breakglass.core.trust import Trust, parse_trust
from breakglass.errors import ConfigInvalid, FileUnreadable, Malformed

MAX_CONFIG_BYTES = 256 * 1024
MAX_PROTECTED = 1_000
MAX_PORT = 65_535
SEED_BYTES = 32  # RFC 8032, section 5.1.5
MAX_KEY_FILE_BYTES = 64 * 1024
POD_LOGS = Path("/var/log/pods")  # kubelet's podLogsDir by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`agent.toml` as values; `address` is "" if the agent offers only its unix socket."""

    name: str
    domain: str
    cluster: str
    pool: str
    address: str
    socket: Path
    tls_key: Path
    tls_certificate: Path
    tls_ca: Path
    trust_file: Path
    trust_sha256: str
    state_directory: Path
    log_key: Path
    runtime_endpoint: Path
    skew_s: int
    protected: tuple[str, ...]
    pod_logs: Path = POD_LOGS
    metrics_textfile: Path | None = None

    @property
    def origin(self) -> str:
        """The origin line of this node's log checkpoints."""
        return f"breakglass/{self.domain}/{self.cluster}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """The contents of the files that a `Config` names; never logged."""

    trust: Trust
    trust_text: bytes
    log_seed: bytes
    tls_key: bytes
    tls_certificate: bytes
    tls_ca: bytes


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """Return a file's bytes; raise `FileUnreadable` when there are more than `max_bytes`."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise FileUnreadable(
            f"cannot read {path}: {(error.strerror or 'an error').lower()}"
        ) from error
    if len(raw) > max_bytes:
        raise FileUnreadable(f"cannot read {path}: it has more than {max_bytes} bytes")
    return raw


def load(path: Path) -> Config:
    """Return the settings in `path`; raise `FileUnreadable` or `ConfigInvalid`."""
    raw = read_bounded(path, max_bytes=MAX_CONFIG_BYTES)
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigInvalid(f"expected TOML in {path}, got: {error}") from error
    try:
        return _config(Fields(document), path.absolute().parent)
    except Malformed as error:
        raise ConfigInvalid(f"{error.message} in {path}", hint=error.hint) from error


def _config(document: Fields, folder: Path) -> Config:
    def path_of(text: str) -> Path:
        if not text:
            raise Malformed("expected a path, got nothing")
        return folder / text

    node, listen, tls = (document.fields(key) for key in ("node", "listen", "tls"))
    trust, state, runtime = (document.fields(key) for key in ("trust", "state", "runtime"))
    clock, protected = document.fields("clock"), document.fields("protected")
    # Optional sections: an older file does not have them.
    watch, metrics = (
        document.fields(key) if document.has(key) else Fields({}) for key in ("watch", "metrics")
    )
    sections = (node, listen, tls, trust, state, runtime, clock, protected)
    config = Config(
        name=node.parsed("name", names.parse_name),
        domain=node.parsed("domain", names.parse_name),
        cluster=node.parsed("cluster", names.parse_name),
        pool=node.parsed("pool", _or_empty(names.parse_name)),
        address=listen.parsed("address", _or_empty(parse_address)),
        socket=listen.parsed("socket", path_of),
        tls_key=tls.parsed("key", path_of),
        tls_certificate=tls.parsed("certificate", path_of),
        tls_ca=tls.parsed("ca", path_of),
        trust_file=trust.parsed("file", path_of),
        trust_sha256=trust.parsed("sha256", names.parse_sha256),
        state_directory=state.parsed("directory", path_of),
        log_key=state.parsed("log_key", path_of),
        runtime_endpoint=runtime.parsed("endpoint", path_of),
        skew_s=clock.parsed("skew", _skew),
        protected=protected.texts("workloads", parse_protected, max_items=MAX_PROTECTED),
        pod_logs=watch.parsed("pod_logs", path_of) if watch.has("pod_logs") else POD_LOGS,
        metrics_textfile=(metrics.parsed("textfile", path_of) if metrics.has("textfile") else None),
    )
    for section in (*sections, watch, metrics, document):
        section.finish()
    return config


def _or_empty(parse: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: parse(text) if text else ""


def _skew(text: str) -> int:
    return names.parse_duration(text, max_s=bounds.MAX_SKEW_S)


def parse_address(text: str) -> str:
    """Return "IP:PORT" or "[IPv6]:PORT"; a host name is refused: the agent resolves none."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise Malformed(
            f"expected an IP address and port, got {names.quoted(text)}",
            hint="names are never resolved: DNS is one of the things that are down",
        ) from error
    if (
        not (port.isascii() and port.isdigit())
        or len(port) > len(str(MAX_PORT))
        or int(port) > MAX_PORT
    ):
        raise Malformed(f"expected a port from 0 to 65535, got {names.quoted(port)}")
    shown = f"[{address}]" if ":" in str(address) else str(address)
    return f"{shown}:{int(port)}"


def parse_protected(text: str) -> str:
    """Return a pattern "namespace/name", each part as `targets.parse_pattern` reads it."""
    namespace, slash, name = text.partition("/")
    if not slash:
        raise Malformed(f"expected a pattern namespace/name, got {names.quoted(text)}")
    return f"{parse_pattern(namespace)}/{parse_pattern(name)}"


def read_identity(config: Config) -> NodeIdentity:
    """Return the contents of the files that the settings name.

    Raises:
        FileUnreadable: one of them cannot be read.
        ConfigInvalid: the trust is not the pinned one or breaks its rules, or the key is no key.
    """
    text = read_bounded(config.trust_file, max_bytes=bounds.MAX_TRUST_BYTES)
    try:
        trust = parse_trust(text)
    except Malformed as error:
        raise ConfigInvalid(f"{error.message} in {config.trust_file}", hint=error.hint) from error
    if trust.sha256 != config.trust_sha256:
        raise ConfigInvalid(
            f"expected the pinned trust {config.trust_sha256}, got {trust.sha256}",
            code="trust-mismatch",
            hint="the file or the pin was changed: take both from the same bundle",
        )
    if trust.domain != config.domain:
        raise ConfigInvalid(f"expected the trust of domain {config.domain}, got {trust.domain}")
    return NodeIdentity(
        trust=trust,
        trust_text=text,
        log_seed=_seed(config.log_key),
        tls_key=read_bounded(config.tls_key, max_bytes=MAX_KEY_FILE_BYTES),
        tls_certificate=read_bounded(config.tls_certificate, max_bytes=MAX_KEY_FILE_BYTES),
        tls_ca=read_bounded(config.tls_ca, max_bytes=MAX_KEY_FILE_BYTES),
    )


def _seed(path: Path) -> bytes:
    text = read_bounded(path, max_bytes=MAX_KEY_FILE_BYTES).strip()
    try:
        seed = bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise ConfigInvalid(f"expected 64 hex digits in {path}, got something else") from error
    if len(seed) != SEED_BYTES:
        raise ConfigInvalid(f"expected 64 hex digits in {path}, got {2 * len(seed)}")
    return seed
