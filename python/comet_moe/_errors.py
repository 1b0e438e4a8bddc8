# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the package: each is a CometError and the builtin that fits it best."""


class CometError(Exception):
    """What went wrong, in one sentence: "[stage] what: value, allowed values"."""

    code = "internal"


class InvalidArgumentError(CometError, ValueError):
    """A size, name or combination that no call can accept."""

    code = "invalid_argument"


class OutOfRangeError(CometError, IndexError):
    """An expert id outside its range."""

    code = "out_of_range"


class CapacityError(CometError, MemoryError):
    """A buffer that is too small; the sentence says the needed size."""

    code = "capacity"


class FileError(CometError, OSError):
    """The operating system refused a file operation."""

    code = "io"


class FormatError(CometError, ValueError):
    """A file that is damaged or of another version."""

    code = "format"


class MismatchError(CometError, ValueError):
    """Ranks that disagree on something that must be equal."""

    code = "mismatch"


class RankTimeoutError(CometError, TimeoutError):
    """A rank waited too long; the sentence says who waited for whom."""

    code = "timeout"


class PeerError(CometError, RuntimeError):
    """Another rank reported a fault; the sentence is that rank's own."""

    code = "peer"


class UnsupportedError(CometError, NotImplementedError):
    """Valid, but not built or not possible on this machine."""

    code = "unsupported"


class InternalError(CometError, RuntimeError):
    """A broken invariant of Comet itself: please report it."""

    code = "internal"


BY_CODE = {
    kind.code: kind
    for kind in (InvalidArgumentError, OutOfRangeError, CapacityError, FileError, FormatError,
                 MismatchError, RankTimeoutError, PeerError, UnsupportedError, InternalError)
}
