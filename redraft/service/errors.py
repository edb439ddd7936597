"""What a caller is told when a request cannot be answered: one shape, whatever went wrong."""

from dataclasses import dataclass, field

__all__ = [
    "ApiError",
    "busy",
    "disk_full",
    "draining",
    "engine_dead",
    "expired",
    "invalid",
    "not_found",
    "store_unavailable",
]


@dataclass(eq=False)
class ApiError(Exception):
    """An answer that is not 200. retryable: the same request may go well later, or elsewhere."""

    status: int
    code: str
    message: str
    retryable: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """The JSON that is sent."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable}


def invalid(code: str, message: str) -> ApiError:
    """The request cannot be used as it stands."""
    return ApiError(422, code, message)


def not_found(code: str, message: str) -> ApiError:
    """What the address names is not there."""
    return ApiError(404, code, message)


def busy(length: int, seconds: float) -> ApiError:
    """The queue is full, or too long for the caller's deadline; seconds: when to try again."""
    message = f"{length} requests are waiting, as many as can be answered in time; try again"
    return ApiError(429, "queue_full", message, True, {"Retry-After": str(max(1, round(seconds)))})


def expired() -> ApiError:
    """The caller's deadline has passed."""
    return ApiError(504, "deadline_passed", "no answer before the deadline; allow more time or try again", True)


def disk_full() -> ApiError:
    """There is no room to write what must be remembered."""
    return ApiError(
        507, "disk_full", "no room on the disk, so nothing was acknowledged; make room, and send it again", True
    )


def store_unavailable() -> ApiError:
    """The database does not answer, or cannot write."""
    return ApiError(503, "store_unavailable", "the store does not answer; try again", True, {"Retry-After": "1"})


def draining() -> ApiError:
    """The process is about to stop."""
    message = "this process is stopping; send the request to another one"
    return ApiError(503, "draining", message, True, {"Connection": "close", "Retry-After": "1"})


def engine_dead() -> ApiError:
    """The thread that makes lists has ended."""
    message = "the engine has stopped and this process must be restarted; send the request to another one"
    return ApiError(503, "engine_dead", message, True)
