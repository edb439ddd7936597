"""Who is where: a hash of salt and unit to one of 10,000 buckets, in a form that any other tool can compute."""

from dataclasses import dataclass
from hashlib import sha256

__all__ = ["BUCKETS", "Lane", "bucket", "buckets_of"]

BUCKETS = 10_000


def bucket(salt: str, unit: str) -> int:
    """The bucket of a unit, 0 to 9,999.

    The first 8 bytes of SHA-256 over "SALT:UNIT" in UTF-8, as a big-endian number, modulo 10,000; no bucket is more
    probable than another by more than 1e-15.
    """
    return int.from_bytes(sha256(f"{salt}:{unit}".encode()).digest()[:8], "big") % BUCKETS


def buckets_of(share: float) -> int | None:
    """How many buckets a share of all units is; None if it is no whole number of them."""
    count = round(share * BUCKETS)
    return count if abs(share * BUCKETS - count) < 1e-6 else None


@dataclass(frozen=True)
class Lane:
    """Buckets from `first` on, of which the first `used` are in use.

    A lane that ramps uses more of its buckets, so those who are in it stay in it.
    """

    first: int
    used: int

    @property
    def end(self) -> int:
        """The first bucket after those in use."""
        return self.first + self.used

    def __contains__(self, number: int) -> bool:
        return self.first <= number < self.end
