from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("signed_file",)
    SIGNED_FILE_FIELD_NUMBER: _ClassVar[int]
    signed_file: bytes
    def __init__(self, signed_file: _Optional[bytes] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("refused", "accepted", "pod", "finished", "repeated", "node_time")
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    NODE_TIME_FIELD_NUMBER: _ClassVar[int]
    refused: Refusal
    accepted: Receipt
    pod: Receipt
    finished: Receipt
    repeated: bool
    node_time: str
    def __init__(self, refused: _Optional[_Union[Refusal, _Mapping]] = ..., accepted: _Optional[_Union[Receipt, _Mapping]] = ..., pod: _Optional[_Union[Receipt, _Mapping]] = ..., finished: _Optional[_Union[Receipt, _Mapping]] = ..., repeated: _Optional[bool] = ..., node_time: _Optional[str] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "needed", "have", "hint", "receipt")
    CODE_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    code: str
    needed: str
    have: str
    hint: str
    receipt: Receipt
    def __init__(self, code: _Optional[str] = ..., needed: _Optional[str] = ..., have: _Optional[str] = ..., hint: _Optional[str] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("entry", "index", "proof", "checkpoint")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    entry: bytes
    index: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    def __init__(self, entry: _Optional[bytes] = ..., index: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("version", "domain", "cluster", "node", "pool", "node_time", "trust_version", "trust_sha256", "log_key", "checkpoint", "runtime", "runtime_ready", "protected", "active_commands", "time_floor")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    NODE_TIME_FIELD_NUMBER: _ClassVar[int]
    TRUST_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRUST_SHA256_FIELD_NUMBER: _ClassVar[int]
    LOG_KEY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_READY_FIELD_NUMBER: _ClassVar[int]
    PROTECTED_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_COMMANDS_FIELD_NUMBER: _ClassVar[int]
    TIME_FLOOR_FIELD_NUMBER: _ClassVar[int]
    version: str
    domain: str
    cluster: str
    node: str
    pool: str
    node_time: str
    trust_version: int
    trust_sha256: str
    log_key: str
    checkpoint: bytes
    runtime: str
    runtime_ready: bool
    protected: _containers.RepeatedScalarFieldContainer[str]
    active_commands: int
    time_floor: str
    def __init__(self, version: _Optional[str] = ..., domain: _Optional[str] = ..., cluster: _Optional[str] = ..., node: _Optional[str] = ..., pool: _Optional[str] = ..., node_time: _Optional[str] = ..., trust_version: _Optional[int] = ..., trust_sha256: _Optional[str] = ..., log_key: _Optional[str] = ..., checkpoint: _Optional[bytes] = ..., runtime: _Optional[str] = ..., runtime_ready: _Optional[bool] = ..., protected: _Optional[_Iterable[str]] = ..., active_commands: _Optional[int] = ..., time_floor: _Optional[str] = ...) -> None: ...

class PodsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Pod(_message.Message):
    __slots__ = ("namespace", "name", "uid", "daemonset", "revision", "state", "containers", "running", "protected", "why_not")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    DAEMONSET_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    PROTECTED_FIELD_NUMBER: _ClassVar[int]
    WHY_NOT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    uid: str
    daemonset: str
    revision: str
    state: str
    containers: int
    running: int
    protected: bool
    why_not: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ..., daemonset: _Optional[str] = ..., revision: _Optional[str] = ..., state: _Optional[str] = ..., containers: _Optional[int] = ..., running: _Optional[int] = ..., protected: _Optional[bool] = ..., why_not: _Optional[str] = ...) -> None: ...

class PodsResponse(_message.Message):
    __slots__ = ("pods", "node_time")
    PODS_FIELD_NUMBER: _ClassVar[int]
    NODE_TIME_FIELD_NUMBER: _ClassVar[int]
    pods: _containers.RepeatedCompositeFieldContainer[Pod]
    node_time: str
    def __init__(self, pods: _Optional[_Iterable[_Union[Pod, _Mapping]]] = ..., node_time: _Optional[str] = ...) -> None: ...

class OutcomeRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class OutcomeResponse(_message.Message):
    __slots__ = ("state", "accepted", "finished", "pods", "node_time")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    NODE_TIME_FIELD_NUMBER: _ClassVar[int]
    state: str
    accepted: Receipt
    finished: Receipt
    pods: _containers.RepeatedCompositeFieldContainer[Receipt]
    node_time: str
    def __init__(self, state: _Optional[str] = ..., accepted: _Optional[_Union[Receipt, _Mapping]] = ..., finished: _Optional[_Union[Receipt, _Mapping]] = ..., pods: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ..., node_time: _Optional[str] = ...) -> None: ...

class EntriesRequest(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("index", "entry", "checkpoint")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    index: int
    entry: bytes
    checkpoint: bytes
    def __init__(self, index: _Optional[int] = ..., entry: _Optional[bytes] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class ConsistencyRequest(_message.Message):
    __slots__ = ("old_size",)
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    old_size: int
    def __init__(self, old_size: _Optional[int] = ...) -> None: ...

class ConsistencyResponse(_message.Message):
    __slots__ = ("proof", "checkpoint")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    def __init__(self, proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class HoldsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Hold(_message.Message):
    __slots__ = ("command", "workload", "revision", "image", "mode", "reason", "incident", "approvals", "since", "until", "left_s", "attempts", "stops", "resets", "leaked_ms", "pods")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    LEFT_S_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    STOPS_FIELD_NUMBER: _ClassVar[int]
    RESETS_FIELD_NUMBER: _ClassVar[int]
    LEAKED_MS_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    command: str
    workload: str
    revision: str
    image: str
    mode: str
    reason: str
    incident: str
    approvals: _containers.RepeatedScalarFieldContainer[str]
    since: str
    until: str
    left_s: int
    attempts: int
    stops: int
    resets: int
    leaked_ms: int
    pods: _containers.RepeatedCompositeFieldContainer[HeldPod]
    def __init__(self, command: _Optional[str] = ..., workload: _Optional[str] = ..., revision: _Optional[str] = ..., image: _Optional[str] = ..., mode: _Optional[str] = ..., reason: _Optional[str] = ..., incident: _Optional[str] = ..., approvals: _Optional[_Iterable[str]] = ..., since: _Optional[str] = ..., until: _Optional[str] = ..., left_s: _Optional[int] = ..., attempts: _Optional[int] = ..., stops: _Optional[int] = ..., resets: _Optional[int] = ..., leaked_ms: _Optional[int] = ..., pods: _Optional[_Iterable[_Union[HeldPod, _Mapping]]] = ...) -> None: ...

class HeldPod(_message.Message):
    __slots__ = ("uid", "name", "gate", "note")
    UID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    uid: str
    name: str
    gate: str
    note: str
    def __init__(self, uid: _Optional[str] = ..., name: _Optional[str] = ..., gate: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class HoldsResponse(_message.Message):
    __slots__ = ("holds", "node_time")
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    NODE_TIME_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[Hold]
    node_time: str
    def __init__(self, holds: _Optional[_Iterable[_Union[Hold, _Mapping]]] = ..., node_time: _Optional[str] = ...) -> None: ...

class MetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MetricsResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...
