# SPDX-License-Identifier: Apache-2.0
"""Why something was refused: one stable code per reason, with what to do about it.

`Refused` is what `decide` and the node answer when they do not act; it says what was needed, what
there was, and a hint.  The codes stand in logs, in JSON output and in runbooks: a code is never
given another meaning.  This module decides nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from breakglass.errors import Malformed, RefusedError


class Reason(StrEnum):
    """Why a command was not approved or not carried out."""

    # The file and its text: anyone can check these.
    UNSIGNED = "unsigned"
    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    TRAILING_TEXT = "trailing-text"
    DIFFERENT_TEXT = "different-text"
    WRONG_TYPE = "wrong-type"
    MISSING_KEY = "missing-key"
    UNKNOWN_KEY = "unknown-key"
    DUPLICATE_KEY = "duplicate-key"
    NOT_CANONICAL = "not-canonical"
    SUMMARY_MISMATCH = "summary-mismatch"
    EMPTY_TARGET = "empty-target"

    # Its signatures.
    SIGNATURE_MALFORMED = "signature-malformed"
    SIGNATURE_STRANGER = "signature-stranger"
    SIGNATURE_NAMESPACE = "signature-namespace"
    SIGNATURE_KEY = "signature-key"
    SIGNATURE_ALGORITHM = "signature-algorithm"
    SIGNATURE_HASH = "signature-hash"
    SIGNATURE_PRESENCE = "signature-presence"
    SIGNATURE_VERIFY_REQUIRED = "signature-verify-required"
    SIGNATURE_INVALID = "signature-invalid"

    # What the trust allows, and when.
    WRONG_DOMAIN = "wrong-domain"
    WRONG_TRUST = "wrong-trust"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    NO_POLICY = "no-policy"
    HOLD_TOO_LONG = "hold-too-long"
    TOO_MANY_NODES = "too-many-nodes"
    SAME_PERSON = "same-person"
    REQUESTER_APPROVED = "requester-approved"
    QUORUM_SHORT = "quorum-short"

    # What only the node knows.
    WRONG_CLUSTER = "wrong-cluster"
    WRONG_NODE = "wrong-node"
    PROTECTED = "protected"
    NOT_DAEMONSET = "not-daemonset"
    TOO_MANY_PODS = "too-many-pods"
    ID_REUSED = "id-reused"
    ENDED_BEFORE_FLOOR = "ended-before-floor"
    TRUST_MISMATCH = "trust-mismatch"
    COURIER_UNKNOWN = "courier-unknown"
    TLS_VERSION = "tls-version"
    TLS_NO_CERTIFICATE = "tls-no-certificate"
    TLS_UNTRUSTED = "tls-untrusted"
    TLS_FAILED = "tls-failed"
    BUSY = "busy"
    STOPPING = "stopping"
    RUNTIME_UNAVAILABLE = "runtime-unavailable"
    RUNTIME_TIMEOUT = "runtime-timeout"
    RUNTIME_ERROR = "runtime-error"
    STATE_UNWRITABLE = "state-unwritable"
    LOG_UNKNOWN = "log-unknown"


NODE_REASONS = frozenset(
    {
        Reason.WRONG_CLUSTER,
        Reason.WRONG_NODE,
        Reason.PROTECTED,
        Reason.NOT_DAEMONSET,
        Reason.TOO_MANY_PODS,
        Reason.ID_REUSED,
        Reason.ENDED_BEFORE_FLOOR,
        Reason.TRUST_MISMATCH,
        Reason.COURIER_UNKNOWN,
        Reason.TLS_VERSION,
        Reason.TLS_NO_CERTIFICATE,
        Reason.TLS_UNTRUSTED,
        Reason.TLS_FAILED,
        Reason.BUSY,
        Reason.STOPPING,
        Reason.RUNTIME_UNAVAILABLE,
        Reason.RUNTIME_TIMEOUT,
        Reason.RUNTIME_ERROR,
        Reason.STATE_UNWRITABLE,
        Reason.LOG_UNKNOWN,
    }
)

_ASK_AGAIN = "ask its author for the file again; it may have been changed on the way"
_SIGN_AGAIN = "let that person approve this file again with the key that the trust lists"
_DRAFT_AGAIN = "draft it again from the trust in force and collect approvals for that"
_LOOK_AT_NODE = "look at the node itself, then deliver the same file again"

HINTS: dict[Reason, str] = {
    Reason.UNSIGNED: "let enough people approve it; `breakglass show` says whose approvals count",
    Reason.TOO_LARGE: "send one command with its own approvals and nothing else",
    Reason.MALFORMED: _ASK_AGAIN,
    Reason.TRAILING_TEXT: "cut off what stands after the last signature block",
    Reason.DIFFERENT_TEXT: "find out which text people mean to approve: compare the code of each",
    Reason.WRONG_TYPE: "deliver a command here; a trust is installed with the node",
    Reason.MISSING_KEY: _ASK_AGAIN,
    Reason.UNKNOWN_KEY: "a newer breakglass may have written this; unknown keys are never ignored",
    Reason.DUPLICATE_KEY: _ASK_AGAIN,
    Reason.NOT_CANONICAL: _ASK_AGAIN,
    Reason.SUMMARY_MISMATCH: "the summary is not what the command does; find out who wrote it",
    Reason.EMPTY_TARGET: "name the clusters, and the nodes or pools in them",
    Reason.SIGNATURE_MALFORMED: _SIGN_AGAIN,
    Reason.SIGNATURE_STRANGER: "approve with a key that the trust lists; no other key counts",
    Reason.SIGNATURE_NAMESPACE: "sign with `ssh-keygen -Y sign -n breakglass-command-v1`",
    Reason.SIGNATURE_KEY: _SIGN_AGAIN,
    Reason.SIGNATURE_ALGORITHM: _SIGN_AGAIN,
    Reason.SIGNATURE_HASH: "sign with sha512, which is ssh-keygen's default, or with sha256",
    Reason.SIGNATURE_PRESENCE: "touch the security key when it blinks; no-touch keys do not count",
    Reason.SIGNATURE_VERIFY_REQUIRED: "sign with the key's PIN or fingerprint, as the trust asks",
    Reason.SIGNATURE_INVALID: "the text may have changed since that approval; compare codes",
    Reason.WRONG_DOMAIN: "the command is for another domain's nodes; draft it there",
    Reason.WRONG_TRUST: _DRAFT_AGAIN,
    Reason.NOT_YET_VALID: "wait, or compare the node's clock with a good one",
    Reason.EXPIRED: _DRAFT_AGAIN,
    Reason.NO_POLICY: "no policy of the trust allows this there; name clusters that it covers",
    Reason.HOLD_TOO_LONG: "draft it with a shorter hold",
    Reason.TOO_MANY_NODES: "draft it for fewer nodes, or split it into several commands",
    Reason.SAME_PERSON: "people are counted, not keys; let another person approve",
    Reason.REQUESTER_APPROVED: "the requester does not count; let another person approve",
    Reason.QUORUM_SHORT: "let more people approve it",
    Reason.WRONG_CLUSTER: "the command names other clusters; deliver it to their nodes",
    Reason.WRONG_NODE: "the command names other nodes; deliver it to them",
    Reason.PROTECTED: "this node's owner protects that workload in the node's own configuration",
    Reason.NOT_DAEMONSET: "name a DaemonSet; other pods are never touched",
    Reason.TOO_MANY_PODS: "the node has more such pods; draft it with a higher cap",
    Reason.ID_REUSED: "the same id came with other bytes before; keep both files and find out why",
    Reason.ENDED_BEFORE_FLOOR: "the node accepted a newer command after its end; draft it again",
    Reason.TRUST_MISMATCH: "install the trust file that this node is pinned to",
    Reason.COURIER_UNKNOWN: "deliver it as a courier of the trust, or through the node's socket",
    Reason.TLS_VERSION: "connect with TLS 1.3",
    Reason.TLS_NO_CERTIFICATE: "connect with a courier's certificate",
    Reason.TLS_UNTRUSTED: "connect with a certificate of this domain's own authority",
    Reason.TLS_FAILED: "connect with TLS 1.3 and a courier's certificate",
    Reason.BUSY: "the node has as many active commands as it may; deliver the same file again",
    Reason.STOPPING: "deliver the same file again when the agent is back",
    Reason.RUNTIME_UNAVAILABLE: _LOOK_AT_NODE,
    Reason.RUNTIME_TIMEOUT: _LOOK_AT_NODE,
    Reason.RUNTIME_ERROR: _LOOK_AT_NODE,
    Reason.STATE_UNWRITABLE: "make the state directory writable and give it space",
    Reason.LOG_UNKNOWN: "check the disk, then restart the agent: it replays what reached the disk",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refusal: nothing is done.

    Attributes:
        reason: the stable code.
        needed: what was needed.
        have: what there was.
        hint: what to do about it; the reason's own when left out.
    """

    reason: Reason
    needed: str
    have: str
    hint: str = ""

    def __post_init__(self) -> None:
        """Fill in the reason's own hint."""
        if not self.hint:
            object.__setattr__(self, "hint", HINTS[self.reason])

    def __bool__(self) -> NoReturn:
        """Refuse to be a condition: `if verdict` would treat a refusal like an approval."""
        raise TypeError("a verdict has no truth value; look at its type")

    @property
    def message(self) -> str:
        """What was needed and what there was, as every error says it."""
        return f"expected {self.needed}, got {self.have}"

    def as_error(self) -> RefusedError:
        """Return the same as an error, for callers that cannot go on."""
        return RefusedError(self.message, code=self.reason.value, hint=self.hint)


def reason_of(code: str, *, otherwise: Reason) -> Reason:
    """Return the reason with an error's stable code, or `otherwise` when there is none."""
    return next((reason for reason in Reason if reason.value == code), otherwise)


def needed_and_have(message: str) -> tuple[str, str]:
    """Return the two halves of an error's "expected X, got Y"."""
    needed, _, have = message.removeprefix("expected ").partition(", got ")
    return needed, have or "something else"


def refused_as_malformed(error: Malformed) -> Refused:
    """Return the refusal of an unusable file, from the error that its parser raised."""
    reason = reason_of(error.stable_code, otherwise=Reason.MALFORMED)
    needed, have = needed_and_have(error.message)
    return Refused(reason=reason, needed=needed, have=have)
