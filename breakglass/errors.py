# SPDX-License-Identifier: Apache-2.0
"""Every error breakglass raises on purpose, in one tree, by whose fault it is.

    BreakglassError
    ├── InputError                 what we were given is unusable             exit 2
    │   ├── UsageError             an argument or a combination of them
    │   ├── Malformed              bytes that claim a format and break it
    │   ├── ConfigInvalid          a setting is missing, unknown or impossible
    │   ├── FileUnreadable         a file is missing, unreadable or too large
    │   └── ToolMissing            a program we need is not installed
    ├── RefusedError               authority was asked for and not given      exit 3
    ├── NodeError                  this node cannot do what it should         exit 4
    │   ├── RuntimeUnavailable     the container runtime does not answer
    │   ├── RuntimeTooOld          the runtime does not speak CRI v1
    │   ├── GateFailed             a limit in the kernel could not be set, or a kill was refused
    │   ├── StateUnwritable        the state directory cannot be written
    │   └── LogUnknown             after a failed sync nothing written is known
    ├── Unreached                  a node did not answer                      exit 5
    ├── EvidenceError              something does not verify                  exit 6
    │   ├── BadSignature           a signature does not hold over these bytes
    │   ├── BadProof               a Merkle proof does not hold
    │   └── LogTampered            a log contradicts itself or its checkpoint
    ├── Defect                     our own fault                              exit 70
    └── Interrupted                a person stopped us                        exit 130

Messages are lower case, say what was expected and what was got, in that order, and end without a
period; advice is the separate `hint`.  Each concrete class has a stable `code`; an instance may
carry a narrower one.  Wrong calls inside the program are `TypeError` or `ValueError` and are not
in this tree.
"""

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """The exit statuses of both programs, and what scripts may rely on them to mean."""

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
        message: "expected X, got Y" in lower case, without a final period.
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
    """What we were given is unusable."""

    code = "input"
    exit_status = Exit.INPUT


class UsageError(InputError):
    """An argument, or a combination of them, makes no sense."""

    code = "usage"
    default_hint = "see --help"


class Malformed(InputError):
    """Bytes claim a format and break it."""

    code = "malformed"
    default_hint = "ask its author for the file again; it may have been changed on the way"


class ConfigInvalid(InputError):
    """A setting is missing, unknown or impossible."""

    code = "config-invalid"
    default_hint = "correct the file, then run `breakglass-agent check-config`"


class FileUnreadable(InputError):
    """A file is missing, unreadable, or larger than its limit."""

    code = "file-unreadable"
    default_hint = "check the path and its permissions"


class ToolMissing(InputError):
    """A program we need is not installed."""

    code = "tool-missing"


class RefusedError(BreakglassError):
    """Authority was asked for and not given."""

    code = "refused"
    exit_status = Exit.REFUSED


class NodeError(BreakglassError):
    """This node cannot do what it should."""

    code = "node"
    exit_status = Exit.INCOMPLETE


class RuntimeUnavailable(NodeError):
    """The container runtime does not answer, or answers with an error."""

    code = "runtime-unavailable"
    default_hint = "check the runtime's socket path and whether the runtime runs"


class RuntimeTooOld(NodeError):
    """The runtime does not speak CRI v1."""

    code = "runtime-too-old"
    default_hint = "breakglass needs CRI v1: containerd 1.6 or newer, CRI-O 1.26 or newer"


class GateFailed(NodeError):
    """A limit in the kernel could not be set, proven or put back, or a kill was refused."""

    code = "gate-failed"


class StateUnwritable(NodeError):
    """The state directory cannot be written, so nothing may be touched."""

    code = "state-unwritable"
    default_hint = "make the state directory writable and give it space; nothing was touched"


class LogUnknown(NodeError):
    """A write or sync of the log failed: what reached the disk is unknown until a restart."""

    code = "log-unknown"
    default_hint = "check the disk, then restart the agent: it replays what is really there"


class Unreached(BreakglassError):
    """A node did not answer."""

    code = "unreached"
    exit_status = Exit.UNREACHED
    default_hint = "try again: a command acts once however often it is delivered"


class EvidenceError(BreakglassError):
    """Something that should verify does not."""

    code = "evidence"
    exit_status = Exit.EVIDENCE
    default_hint = "keep the files as they are and treat the node as suspect"


class BadSignature(EvidenceError):
    """A signature does not hold over these bytes, or breaks our profile of it."""

    code = "bad-signature"


class BadProof(EvidenceError):
    """A Merkle proof does not lead from the leaf to the root."""

    code = "bad-proof"


class LogTampered(EvidenceError):
    """A log contradicts itself, its checkpoint, or an earlier view of it."""

    code = "log-tampered"


class Defect(BreakglassError):
    """Our own fault: a state that cannot be."""

    code = "defect"
    default_hint = "please report this with the message above"


class Interrupted(BreakglassError):
    """A person stopped us."""

    code = "interrupted"
    exit_status = Exit.INTERRUPTED
    default_hint = "run it again: nodes finish what they accepted, and act once"
