"""What stands for a patient, a UID and a day: the same for the same secret."""

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from radwb.data.private import FILE

LEAST_DAYS = 400  # by which a patient's dates go back
MOST_DAYS = 3650
FORMAT = "radwb deidentify key 1"


@dataclass
class Secret:
    """A random number, and what was replaced by what with its help."""

    seed: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    patients: dict[str, str] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)

    def patient(self, name: str) -> str:
        """A patient's new identifier, of which nothing leads back."""
        new = f"P{self._number('patient', name):032X}"[:13]
        self.patients[new] = name
        return new

    def uid(self, old: str) -> str:
        """A UID's successor, the same in all files."""
        new = f"2.25.{self._number('uid', old)}"
        self.uids[new] = old
        return new

    def days(self, patient: str) -> int:
        """By how many days a patient's dates are moved; the days between them stay."""
        span = MOST_DAYS - LEAST_DAYS
        return -(LEAST_DAYS + self._number("days", patient) % span)

    def name(self, kind: str, old: str) -> str:
        """A short word for a site or a file, the same for the same."""
        return f"{self._number(kind, old):032x}"[:12]

    def _number(self, kind, old):
        message = f"{kind}|{old}".encode("utf-8", "surrogatepass")
        digest = hmac.new(self.seed, message, hashlib.sha256).digest()
        return int.from_bytes(digest[:16], "big")


def open_secret(key: Path | None) -> Secret:
    """The secret of a key file, where there is one; else a new one."""
    if key is None or not key.exists():
        return Secret()
    try:
        kept = json.loads(key.read_text("utf-8"))
        seed = bytes.fromhex(kept["seed"])
        known = kept["format"] == FORMAT and len(seed) == 32
        patients = dict(kept["patients"])
        uids = dict(kept["uids"])
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(
            f"expected a key that deidentify wrote, got {key.name}. Try the name of "
            "a file that doesn't exist yet"
        )
    return Secret(seed, patients, uids)


def write_secret(secret: Secret, key: Path) -> None:
    """Write the key, which leads from the new names back; its owner alone reads it."""
    text = json.dumps(
        {
            "format": FORMAT,
            "seed": secret.seed.hex(),
            "patients": secret.patients,
            "uids": secret.uids,
        },
        indent=1,
    )
    key.parent.mkdir(parents=True, exist_ok=True)
    part = key.with_name(f".{key.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    # private from its first byte on: a chmod afterwards would come too late
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(part, key)
