# SPDX-License-Identifier: Apache-2.0
"""Every error that breakglass raises on purpose, in one tree, grouped by whose fault it is.

    BreakglassError
    ├── InputError                 the input cannot be used                   exit 2
    │   ├── UsageError             an argument, or a combination, is not valid
    │   ├── Malformed              the bytes do not follow their format
    │   ├── ConfigInvalid          a setting is missing, unknown or impossible
    │   ├── FileUnreadable         a file is missing, unreadable or too large
    │   └── ToolMissing            a required program is not installed
    ├── RefusedError               the approvals or policy do not allow it    exit 3
    ├── NodeError                  this node cannot do its work               exit 4
    │   ├── RuntimeUnavailable     the container runtime does not answer
    │   ├── RuntimeTooOld          the runtime does not speak CRI v1
    │   ├── GateFailed             a limit of a control group could not be set, or a kill failed
    │   ├── StateUnwritable        the state directory cannot be written
    │   └── LogUnknown             a write or sync of the log failed
    ├── Unreached                  a node did not answer                      exit 5
    ├── EvidenceError              something does not verify                  exit 6
    │   ├── BadSignature           a signature does not verify over these bytes
    │   ├── BadProof               a Merkle proof does not verify
    │   └── LogTampered            a log contradicts itself or its checkpoint
    ├── Defect                     breakglass has a bug                       exit 70
    └── Interrupted                a person stopped the program               exit 130

A message is lower case and ends without a period.  The errors of parsers, validators and verifiers
(`Malformed`, `UsageError`, `ConfigInvalid`, `EvidenceError`, `Defect`, and `RefusedError` where it
compares a value with a bound) say "expected X, got Y"; the others say what happened and to what.
Advice is the separate `hint`.  Each concrete class has a stable `code`; an instance may carry a
narrower one.  Wrong calls inside the program raise `TypeError` or `ValueError`, which are not in
this tree.
"""

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """The exit statuses of both programs; scripts may rely on their meaning."""

    DONE = 0
    INPUT = 2
    REFUSED = 3
    INCOMPLETE = 4
    UNREACHED = 5
    EVIDENCE = 6
    DEFECT = 70
    INTERRUPTED = 130


class BreakglassError(Exception):
    """The root of the tree; never raised itself.

    Args:
        message: lower case, without a final period, in the form that the module's docstring gives.
        code: a narrower stable code than the class's own.
        hint: what to do about it, as one sentence in lower case.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[Exit] = Exit.DEFECT
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.stable_code = code or self.code
        self.hint = hint or self.default_hint


class InputError(BreakglassError):
    """The input cannot be used."""

    code = "input"
    exit_status = Exit.INPUT


class UsageError(InputError):
    """An argument, or a combination of arguments, is not valid."""

    code = "usage"
    default_hint = "see --help"


class Malformed(InputError):
    """The bytes do not follow the format that they should have."""

    code = "malformed"
    default_hint = "ask the author for the file again; it may have been changed on the way"


class ConfigInvalid(InputError):
    """A setting is missing, unknown or impossible."""

    code = "config-invalid"
    default_hint = "correct the file, then run `breakglass-agent check-config`"


class FileUnreadable(InputError):
    """A file is missing, unreadable, unwritable, or larger than its bound."""

    code = "file-unreadable"
    default_hint = "check the path and its permissions, or run this as the file's owner"


class ToolMissing(InputError):
    """A required program is not installed."""

    code = "tool-missing"


class RefusedError(BreakglassError):
    """A signature, the quorum, the policy, the trust or a cap does not allow it."""

    code = "refused"
    exit_status = Exit.REFUSED


class NodeError(BreakglassError):
    """This node cannot do its work."""

    code = "node"
    exit_status = Exit.INCOMPLETE


class RuntimeUnavailable(NodeError):
    """The container runtime does not answer, or answers with an error."""

    code = "runtime-unavailable"
    default_hint = "check that the runtime runs and that its socket path in agent.toml is right"


class RuntimeTooOld(NodeError):
    """The runtime does not speak CRI v1."""

    code = "runtime-too-old"
    default_hint = "breakglass needs CRI v1: containerd 1.6 or newer, CRI-O 1.26 or newer"


class GateFailed(NodeError):
    """A limit of a control group could not be set, proven or restored, or a kill failed."""

    code = "gate-failed"


class StateUnwritable(NodeError):
    """The state directory cannot be written, so the agent may not touch any pod (P4)."""

    code = "state-unwritable"
    default_hint = "make the state directory writable and free some space; no pod was touched"


class LogUnknown(NodeError):
    """A write or sync of the log failed: what reached the disk is unknown until a restart."""

    code = "log-unknown"
    default_hint = "check the disk, then restart the agent: it reads the log from the disk again"


class Unreached(BreakglassError):
    """A node did not answer."""

    code = "unreached"
    exit_status = Exit.UNREACHED
    default_hint = "try again: a node acts only once, however often a command is delivered"


class EvidenceError(BreakglassError):
    """A signature, a proof, a checkpoint or a log entry does not verify."""

    code = "evidence"
    exit_status = Exit.EVIDENCE
    default_hint = "do not change the files; the node may be compromised: investigate it"


class BadSignature(EvidenceError):
    """A signature does not verify over these bytes, or is outside our profile of SSHSIG."""

    code = "bad-signature"


class BadProof(EvidenceError):
    """A Merkle proof does not lead from the leaf to the root."""

    code = "bad-proof"


class LogTampered(EvidenceError):
    """A log contradicts itself, its checkpoint, or an earlier view of it."""

    code = "log-tampered"


class Defect(BreakglassError):
    """A bug in breakglass: the program reached a state that should be impossible."""

    code = "defect"
    default_hint = "please report this, with the message above"


class Interrupted(BreakglassError):
    """A person stopped the program."""

    code = "interrupted"
    exit_status = Exit.INTERRUPTED
    default_hint = "run it again: nodes finish accepted commands by themselves, and act only once"
