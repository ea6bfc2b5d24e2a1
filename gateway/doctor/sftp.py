"""The SFTP listeners: what each offers, what the configuration says, and what ends soon.

Asks the listeners that run. Imports the configuration and the SFTP front end's algorithms.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.config.exceptions import openings
from gateway.config.host_keys import HostKeyKind, kind_of
from gateway.config.problems import written
from gateway.config.sftp import ExceptionConfig, SftpConfig
from gateway.doctor.finding import (
    SOON_DAYS,
    Detail,
    Finding,
    days_left,
    ok,
    problem,
    warning,
)
from gateway.doctor.listening import TIMEOUT_S, reachable
from gateway.doctor.ssh import STRICT, NoSshError, SshAnswer, ask
from gateway.sftp.algorithms import PROFILES, Algorithms, available
from gateway.sftp.negotiation import KNOWN_KEX
from gateway.sftp.settings import SOFTWARE

RSA_BITS_LOW = 2048
RSA_BITS_GOOD = 3072

_NOT_ALGORITHMS = frozenset({"ext-info-s", STRICT})


def check_listeners(sftp: SftpConfig, now_us: int) -> Iterator[Finding]:
    """Yield a finding for each SFTP listener: what it offers, asked where it runs."""
    kinds = [kind for path in sftp.host_keys if (kind := kind_of(path)) is not None]
    for endpoint in sftp.listen:
        address = reachable(endpoint)
        offer = sftp.offered_at(endpoint).offer(address[0], now_us)
        expected = available(offer.algorithms, KNOWN_KEX)
        subject = f"sftp {endpoint}"
        try:
            answer = ask(address, TIMEOUT_S)
        except NoSshError as error:
            message = f"what listens there is no SFTP server: {error}."
            yield problem(subject, message, "Stop that program, or choose another port.")
        except OSError:
            yield warning(
                subject,
                "nothing answers there; by the configuration it would offer what follows.",
                "Start the gateway, or look at its log if it should be running.",
                *_offered(expected, _signing(expected, kinds)),
            )
        else:
            yield _compared(subject, answer, expected, kinds)


def _compared(
    subject: str, answer: SshAnswer, expected: Algorithms, kinds: list[HostKeyKind]
) -> Finding:
    heard = Algorithms(
        tuple(name for name in answer.kex if name not in _NOT_ALGORITHMS),
        answer.ciphers,
        answer.macs,
        answer.host_keys,
    )
    details = _offered(heard, answer.host_keys)
    if answer.identification != f"SSH-2.0-{SOFTWARE}":
        message = f"another server answers there: {answer.identification!r}."
        return problem(subject, message, "Stop that program, or choose another port.", *details)
    if not answer.strict_kex:
        message = "it does not offer strict key exchange (Terrapin, CVE-2023-48795)."
        return problem(subject, message, "Update Sealgate's libraries.", *details)
    signing = _signing(expected, kinds)
    wanted = {*expected.kex, *expected.ciphers, *expected.macs, *signing}
    differing = sorted(wanted ^ {*heard.kex, *heard.ciphers, *heard.macs, *answer.host_keys})
    if differing:
        message = f"it does not offer what the configuration says: {', '.join(differing)}."
        return warning(subject, message, "Restart the gateway to put the file in force.", *details)
    return ok(subject, "it was asked; strict key exchange, and what follows.", *details)


def _signing(algorithms: Algorithms, kinds: list[HostKeyKind]) -> tuple[str, ...]:
    """Return the signatures by which the host keys of these ``kinds`` prove themselves."""
    able = {name for kind in kinds for name in kind.signatures}
    return tuple(name for name in algorithms.signatures if name in able)


def _offered(algorithms: Algorithms, host_keys: tuple[str, ...]) -> tuple[Detail, ...]:
    return (
        Detail("key exchange", " ".join(algorithms.kex)),
        Detail("host keys", " ".join(host_keys)),
        Detail("ciphers", " ".join(algorithms.ciphers)),
        Detail("macs", " ".join(algorithms.macs)),
    )


def check_openings(sftp: SftpConfig, now_us: int) -> Iterator[Finding]:
    """Yield a finding for each thing that opens weaker algorithms: to whom, and for how long."""
    for keys, opening in openings(sftp):
        subject = written(keys)
        left = days_left(opening.ends_us, now_us)
        details = [Detail("reason", opening.reason)]
        if isinstance(opening, ExceptionConfig):
            details += [
                Detail("networks", " ".join(map(str, opening.networks))),
                Detail("users", " ".join(opening.users)),
                Detail("algorithms", " ".join(opening.algorithms)),
            ]
        if left < 0:
            continue  # the configuration's own check warns of it
        if left <= SOON_DAYS:
            message = f"ends on {opening.until}, in {left} days; its clients cannot come in then."
            yield warning(subject, message, "Replace them, or agree on another day.", *details)
        else:
            yield ok(subject, f"opens weaker algorithms until {opening.until}.", *details)


def check_host_keys(sftp: SftpConfig) -> Iterator[Finding]:
    """Yield a finding for each host key: its kind, size, fingerprint, and whether it is used."""
    seen: dict[str, Path] = {}
    kinds: set[str] = set()
    for path in sftp.host_keys:
        subject = f"host key {path}"
        kind = kind_of(path)
        if kind is None:
            message = "is no SSH private key without a passphrase."
            yield problem(subject, message, "Make one with 'ssh-keygen -t ed25519 -f FILE'.")
            continue
        kinds.add(kind.name)
        first = seen.setdefault(" ".join(sorted(kind.signatures)), path)
        yield _host_key(sftp, subject, kind, None if first == path else first)
    if "ECDSA" not in kinds and (sftp.legacy is not None or sftp.exceptions):
        # JSch 0.1.55 knows no Ed25519, and of RSA only signatures by SHA-1.
        message = "hold no ECDSA key, the only kind that old clients take without SHA-1."
        yield warning("host keys", message, "Add one made with 'ssh-keygen -t ecdsa -f FILE'.")


def _host_key(sftp: SftpConfig, subject: str, kind: HostKeyKind, twin: Path | None) -> Finding:
    named = f"{kind.name}, {kind.size_bits} bits"
    details = (Detail("fingerprint", kind.fingerprint),)
    used = kind.signatures & set(PROFILES[sftp.algorithms].signatures)
    if not kind.signatures:
        return problem(subject, f"{named}: no client takes it.", "Remove it.", *details)
    if twin is not None:
        message = f"{named}: of the same kind as {twin}, so the gateway does not start."
        return problem(subject, message, "Keep one key of each kind.", *details)
    if not used:
        message = f"{named}: not used, since '{sftp.algorithms}' does not have it."
        return warning(subject, message, "Remove it, or change 'algorithms'.", *details)
    if kind.name == "RSA" and kind.size_bits < RSA_BITS_GOOD:
        tell = problem if kind.size_bits < RSA_BITS_LOW else warning
        remedy = "Make one with 'ssh-keygen -t rsa -b 3072 -f FILE' and tell the clients."
        return tell(subject, f"{named}: too short to last.", remedy, *details)
    return ok(subject, f"{named}.", *details)
