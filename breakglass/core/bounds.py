# SPDX-License-Identifier: Apache-2.0
"""Every bound on input, time and storage: the unit is in the name, the reason beside it."""

# Documents.  A log entry must stay below 65,535 bytes (the length prefix of C2SP tlog-tiles is
# 16 bits) and holds a whole signed file as JSON text, so files stay well below that.
MAX_COMMAND_BYTES = 16 * 1024  # the longest drill command is 2 KiB
MAX_TRUST_BYTES = 48 * 1024  # about 100 people with one Ed25519 key each
MAX_SIGNED_FILE_BYTES = 40 * 1024
MAX_ENTRY_BYTES = 65_535
MAX_JSON_DEPTH = 6
MAX_JSON_INTEGER = 2**53 - 1  # the largest that every JSON reader keeps exact (RFC 8259, 6)
MAX_TEXT_CHARS = 512  # reason, incident, labels
MAX_WORKLOAD_CHARS = 253  # a DaemonSet's name is a DNS subdomain

# SSH signatures and keys.  Armored sizes: Ed25519 322 B, P-521 598 B, RSA-4096 1,584 B.
MAX_SIGNATURES = 16
MAX_ARMOR_BYTES = 8 * 1024
MAX_PUBLIC_KEY_BYTES = 4 * 1024
MIN_RSA_BITS = 3072  # NIST SP 800-57 part 1: 128-bit strength
MAX_RSA_BITS = 8192  # verification time grows with the square
MAX_SSH_APPLICATION_CHARS = 128

# Trust.
MAX_PEOPLE = 200
MAX_KEYS_PER_PERSON = 8
MAX_GROUPS = 32
MAX_POLICIES = 32
MAX_QUORUM_GROUPS = 8
MAX_COURIERS = 64
MIN_APPROVALS_TO_STOP = 2  # no person may stop pods alone

# Commands.
MAX_CLUSTERS = 64
MAX_PATTERNS = 256
MAX_PATTERN_STARS = 4  # bounds the time that matching one name takes
MAX_PATTERN_CHARS = 128  # a name of 63 characters with ranges in it
MAX_SUMMARY_CHARS = 4_096  # a summary shows four items of each list
MAX_NODES = 100_000
MAX_PODS_PER_NODE = 1_000
MAX_PARALLEL = 10_000
MAX_GRACE_S = 3_600
MAX_HOLD_S = 7 * 24 * 3_600
MAX_WINDOW_S = 24 * 3_600  # from not_before to not_after
DEFAULT_SKEW_S = 300
MAX_SKEW_S = 3_600

# The container runtime.  110 pods make 31 kB of sandboxes and 44 kB of containers (measured).
MAX_RUNTIME_MESSAGE_BYTES = 16 * 1024 * 1024  # kubelet has the same bound
RUNTIME_CALL_TIMEOUT_S = 2.0  # a list call takes 1-3 ms; 99th percentile 90 ms
STOP_MARGIN_S = 4.0  # after the grace period; containerd kills a few hundred ms after it
KILL_TIMEOUT_S = 4.0  # StopContainer with timeout 0: 0.03-0.1 s when healthy
QUIET_TIMEOUT_S = 3.0  # a container in CREATED starts or fails within this
LOOK_INTERVAL_S = 0.05
RUNTIME_PATIENCE_S = 10.0  # containerd restarts in 0.1-0.6 s, with its unit's RestartSec in 5 s
MAX_SILENT_LOOKS = 2  # after so many unanswered calls, stop without the runtime
MAX_LISTING_BYTES = 8 * 1024 * 1024  # 110 pods make about 60 kB
SETTLE_TIMEOUT_S = 0.5  # from the answer to a stop until runtime and kernel show the exit
MAX_STOP_TRIES = 3  # tries of one rung while the runtime returns errors or restarts
MAX_CLIMB_ROUNDS = 3  # repeats for containers that start while their pod is being stopped
MAX_LEAF_PIDS = 100_000  # process ids read from one container's group
MAX_PARALLEL_STOPS = 16  # as fast as 8 for 30 pods; fewer pods wait for others' grace periods
MAX_POD_FOLDERS = 4_096  # read from one directory; kubelet removes those of dead pods

# The capture of a pod, taken before its first kill.
CAPTURE_MAX_BYTES = 256 * 1024  # per pod: 200 lines of 300 bytes from four containers
CAPTURE_TIMEOUT_S = 0.25  # the longest delay of a kill; 10-40 ms when healthy (measured)
CAPTURE_LOG_LINES = 200
CAPTURE_STORE_BYTES = 256 * 1024 * 1024  # a thousand captures of the largest size
CAPTURE_DISK_LEFT_BYTES = 64 * 1024 * 1024  # free space that captures leave for the log

# Holds.
DEFAULT_HOLD_S = 2 * 3_600  # time to find the cause; harmless if an operator forgets the hold
HOLD_TICK_S = 1.0  # polling while holds are active; kubelet retries after 1, 10, 20 ... 300 s
IDLE_TICK_S = 10.0  # refreshes the pod inventory that is used when the runtime gets stuck
NEWBORN_LOOKS_S = 5.0  # how long a newborn pod that may be covered is polled closely
MAX_NEWBORN_PODS = 256  # polled closely at the same time; kubelet starts a few at a time
NEWBORN_LOOK_INTERVAL_S = 0.002
NEWBORN_CHECK_S = 0.1  # kubelet may write podPidsLimit 0.1 ms after our write, or later
PROVE_EVERY_TICKS = 30
ENFORCED_EVERY_S = 60.0
HOLD_BEAT_S = 600.0  # the longest time without an entry while a hold is active: 144 a day
SANDBOX_TIMEOUT_S = 10.0  # StopPodSandbox: CNI DEL may wait for an API server that is down

# The agent's listeners.
MAX_REQUEST_BYTES = 64 * 1024
MAX_METADATA_BYTES = 8 * 1024
MAX_CONCURRENT_RPCS = 32
MAX_CONNECTIONS = 64
MAX_ACTIVE_COMMANDS = 16
HANDSHAKE_TIMEOUT_MS = 3_000
MAX_REFUSALS_BURST = 64  # refusals that get an entry each; the next ones are only counted
REFUSAL_REFILL_S = 60.0  # then one entry a minute: an attacker adds at most 0.9 MB a day
REFUSALS_UP_TO_BYTES = 1024 * 1024 * 1024  # in a larger log refusals are only counted
MAX_ENTRIES_PER_READ = 512
MAX_STDERR_LINE_BYTES = 4 * 1024

# The log's files.
SEGMENT_BYTES = 4 * 1024 * 1024
BALLAST_BYTES = 1024 * 1024
MAX_LOG_BYTES = 4 * 1024 * 1024 * 1024
LOG_RESERVE_BYTES = 512 * 1024  # reserved for outcomes of accepted commands: 400 entries
MAX_QUARANTINED = 64  # copies of torn last frames, at most 66 kB each
MAX_ORIGIN_CHARS = 330  # "breakglass/", a domain and a node name
MAX_NOTE_BYTES = 8 * 1024  # our own checkpoints have about 260 bytes
MAX_NOTE_SIGNATURES = 16  # C2SP signed-note: readers must accept at least 16

# The bastion.
MAX_INVENTORY_BYTES = 64 * 1024 * 1024
DEFAULT_PARALLEL = 128  # above this the gRPC client serves nodes unfairly (measured)
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
