"""The whole check-up, in the order in which an administrator mends things.

Each part stands alone: what one stumbles over is a finding, and the others go on. Imports the
parts, the configuration and the wiring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from auth.errors import AuthError
from backends.errors import KeyUnavailableError
from gateway.app import read_master_keys
from gateway.config import ConfigError, GatewayConfig, Problem, check_files, load_config, warnings
from gateway.doctor import people, sftp, storage, trail, webdav
from gateway.doctor.finding import Finding, ok, problem, warning
from gateway.errors import SealgateError
from gateway.model import Clock
from gateway.starting import unusable_keys


def check_up(source: Path, clock: Clock) -> Iterator[Finding]:
    """Yield every finding on the installation that the configuration ``source`` describes."""
    try:
        config = load_config(source)
    except ConfigError as error:
        yield from map(_of_problem, error.problems)
        return
    yield from _configuration(config, source, clock)
    yield from _listeners(config, clock())
    yield from _stored(config, clock)


def _configuration(config: GatewayConfig, source: Path, clock: Clock) -> Iterator[Finding]:
    wrong = check_files(config) or [config.place(each) for each in unusable_keys(config)]
    yield from map(_of_problem, wrong)
    for caution in warnings(config, clock=clock):
        yield warning(_place(caution), caution.message, caution.remedy)
    if not wrong:
        yield ok(f"configuration {source}", "is good.")


def _of_problem(found: Problem) -> Finding:
    return problem(_place(found), found.message, found.remedy)


def _place(found: Problem) -> str:
    return f"{found.file}:{found.line} {found.key}".strip()


def _listeners(config: GatewayConfig, now_us: int) -> Iterator[Finding]:
    if config.server.webdav is not None:
        yield from webdav.check_listeners(config.server.webdav)
        yield from webdav.check_certificate(config.server.webdav, now_us)
    if config.server.sftp is not None:
        yield from sftp.check_listeners(config.server.sftp, now_us)
        yield from sftp.check_openings(config.server.sftp, now_us)
        yield from sftp.check_host_keys(config.server.sftp)


def _stored(config: GatewayConfig, clock: Clock) -> Iterator[Finding]:
    yield from _guarded("master key", lambda: storage.check_master_key(config))
    yield from _guarded("data folder", lambda: storage.check_data_folder(config))
    yield from _guarded("directory", lambda: people.check_directory(config))
    try:
        catalog, found = storage.open_stores(config)
    except SealgateError as error:
        yield problem("catalog", str(error), "Mend that first; what it holds was not looked at.")
        catalog, found = None, []
    yield from found
    try:
        if catalog is not None:
            try:
                masters = read_master_keys(config)
            except KeyUnavailableError:
                return
            yield from _guarded(
                "catalog", lambda: storage.check_stores(config, catalog=catalog, masters=masters)
            )
            yield from _guarded(
                "one-time codes", lambda: people.check_enrolment(config, catalog, masters)
            )
        yield from _guarded("audit anchor", lambda: trail.check_anchor(config, catalog))
        yield from _guarded("clock", lambda: trail.check_times(config, catalog, clock()))
    finally:
        if catalog is not None:
            catalog.close()


def _guarded(subject: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what ``check`` finds; that it fails is what it finds then."""
    try:
        return list(check())
    except AuthError as error:
        return [problem(subject, str(error), "See 'directory' in the configuration.")]
    except (SealgateError, OSError) as error:
        return [problem(subject, str(error), "Mend that; the rest of it was not looked at.")]
