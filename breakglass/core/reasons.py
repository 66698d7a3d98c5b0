# SPDX-License-Identifier: Apache-2.0
"""The reasons for a refusal: one stable code each, with a hint for the operator.

`decide` and the node return `Refused` when they refuse a command: it says what was required, what
they found, and what to do.  Logs, JSON output and runbooks contain the codes, so a code never gets
another meaning.  This module decides nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from breakglass.errors import Malformed, RefusedError


class Reason(StrEnum):
    """Why a command was not approved or not carried out."""

    # The file and its text; checked without a trust.
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

    # The trust and the validity window.
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

    # Reasons that only the node knows.
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

_ASK_AGAIN = "ask the author to send the file again; it may have been changed on the way"
_SIGN_AGAIN = "let that person approve this file again with the key that the trust lists"
_DRAFT_AGAIN = "draft a new command under the trust in force and collect approvals for it"
_LOOK_AT_NODE = "check the container runtime on the node, then deliver the same file again"

HINTS: dict[Reason, str] = {
    Reason.UNSIGNED: "collect approvals; `breakglass show` lists the people who may approve it",
    Reason.TOO_LARGE: "deliver one command with its approvals and nothing else",
    Reason.MALFORMED: _ASK_AGAIN,
    Reason.TRAILING_TEXT: "delete everything after the last signature block",
    Reason.DIFFERENT_TEXT: "ask the approvers which text they approved: compare the codes aloud",
    Reason.WRONG_TYPE: "deliver a command; a trust is installed with the node, not delivered",
    Reason.MISSING_KEY: _ASK_AGAIN,
    Reason.UNKNOWN_KEY: "a newer breakglass may have written this; unknown keys are never ignored",
    Reason.DUPLICATE_KEY: _ASK_AGAIN,
    Reason.NOT_CANONICAL: _ASK_AGAIN,
    Reason.SUMMARY_MISMATCH: "the summary does not match the command; find out who wrote it",
    Reason.EMPTY_TARGET: "name the clusters, and the nodes or pools in them",
    Reason.SIGNATURE_MALFORMED: _SIGN_AGAIN,
    Reason.SIGNATURE_STRANGER: "approve with a key that the trust lists; no other key counts",
    Reason.SIGNATURE_NAMESPACE: "sign with `ssh-keygen -Y sign -n breakglass-command-v1`",
    Reason.SIGNATURE_KEY: _SIGN_AGAIN,
    Reason.SIGNATURE_ALGORITHM: _SIGN_AGAIN,
    Reason.SIGNATURE_HASH: "sign with sha512 (ssh-keygen's default) or sha256",
    Reason.SIGNATURE_PRESENCE: "touch the security key when it blinks; the trust requires it",
    Reason.SIGNATURE_VERIFY_REQUIRED: "use the key's PIN or fingerprint; the trust requires it",
    Reason.SIGNATURE_INVALID: "the text may have changed after that approval; compare the codes",
    Reason.WRONG_DOMAIN: "the command is for another domain; draft one for this domain",
    Reason.WRONG_TRUST: _DRAFT_AGAIN,
    Reason.NOT_YET_VALID: "wait for the window to begin, or check the node's clock",
    Reason.EXPIRED: _DRAFT_AGAIN,
    Reason.NO_POLICY: "no policy covers this verb, cluster and namespace; change the draft",
    Reason.HOLD_TOO_LONG: "draft the command again with a shorter hold",
    Reason.TOO_MANY_NODES: "draft it for fewer nodes, or as several commands",
    Reason.SAME_PERSON: "each person counts once, with all keys; let another person approve",
    Reason.REQUESTER_APPROVED: "the requester's approval does not count; let another approve",
    Reason.QUORUM_SHORT: "let more people approve it",
    Reason.WRONG_CLUSTER: "the command is for other clusters; deliver it to their nodes",
    Reason.WRONG_NODE: "the command is for other nodes; deliver it to them",
    Reason.PROTECTED: "the node's configuration protects this workload; no quorum overrides it",
    Reason.NOT_DAEMONSET: "name a DaemonSet; pods of other controllers are never stopped",
    Reason.TOO_MANY_PODS: "draft it with a higher limit, if so many pods are to be stopped",
    Reason.ID_REUSED: "another text with this id came before; keep both files and find out why",
    Reason.ENDED_BEFORE_FLOOR: "draft it again: it ended before a command that the node accepted",
    Reason.TRUST_MISMATCH: "install the trust file with the digest that this node pins",
    Reason.COURIER_UNKNOWN: "use the certificate of a courier in the trust, or the node's socket",
    Reason.TLS_VERSION: "connect with TLS 1.3",
    Reason.TLS_NO_CERTIFICATE: "connect with the certificate of a courier in the trust",
    Reason.TLS_UNTRUSTED: "connect with a certificate that this domain's own CA signed",
    Reason.TLS_FAILED: "connect with TLS 1.3 and a courier's certificate",
    Reason.BUSY: "the node has its maximum of active commands; deliver the same file later",
    Reason.STOPPING: "deliver the same file again when the agent has restarted",
    Reason.RUNTIME_UNAVAILABLE: _LOOK_AT_NODE,
    Reason.RUNTIME_TIMEOUT: _LOOK_AT_NODE,
    Reason.RUNTIME_ERROR: _LOOK_AT_NODE,
    Reason.STATE_UNWRITABLE: "make the state directory writable and free disk space for it",
    Reason.LOG_UNKNOWN: "check the disk, then restart the agent: it replays the log from disk",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refusal and its reason.

    Attributes:
        reason: the stable code.
        needed: what was required.
        have: what was found instead.
        hint: what to do about it; the default is the reason's hint.
    """

    reason: Reason
    needed: str
    have: str
    hint: str = ""

    def __post_init__(self) -> None:
        """Fill in the reason's hint if none was given."""
        if not self.hint:
            object.__setattr__(self, "hint", HINTS[self.reason])

    def __bool__(self) -> NoReturn:
        """Raise `TypeError`: `if verdict` would be true for a refusal too."""
        raise TypeError("a verdict has no truth value; check its type")

    @property
    def message(self) -> str:
        """The refusal as "expected X, got Y"."""
        return f"expected {self.needed}, got {self.have}"

    def as_error(self) -> RefusedError:
        """Return this refusal as a `RefusedError` to raise."""
        return RefusedError(self.message, code=self.reason.value, hint=self.hint)


def reason_of(code: str, *, otherwise: Reason) -> Reason:
    """Return the reason with this stable code, or `otherwise` if there is none."""
    return next((reason for reason in Reason if reason.value == code), otherwise)


def needed_and_have(message: str) -> tuple[str, str]:
    """Return X and Y of an error's "expected X, got Y"."""
    needed, _, have = message.removeprefix("expected ").partition(", got ")
    return needed, have or "something else"


def refused_as_malformed(error: Malformed) -> Refused:
    """Return the refusal for a parser's error."""
    reason = reason_of(error.stable_code, otherwise=Reason.MALFORMED)
    needed, have = needed_and_have(error.message)
    return Refused(reason=reason, needed=needed, have=have)
