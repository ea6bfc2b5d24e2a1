"""``sealgate keys split|combine``: the master key as sheets of words, for emergencies."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from backends.keyring import MasterKey
from backends.shamir import (
    WORD_COUNT,
    Gathering,
    KeyShare,
    KeyShareError,
    read_share,
    require_words,
    split,
    word_runs,
)
from backends.share import master_key
from gateway.app import has_data
from gateway.audit.record import iso_time
from gateway.commands.keys.place import (
    key_file,
    opened_with,
    require_outside_data,
    write_new_key,
)
from gateway.commands.output import (
    CONFIG_VARIABLE,
    DONE,
    UsageError,
    administered,
    config_of,
    opened,
    print_json,
    say,
)
from gateway.config import GatewayConfig

_WORDS_A_ROW = 3


def run_split(arguments: argparse.Namespace) -> int:
    """Print the master key in use as sheets of words, or write each sheet to a file."""
    with opened(arguments) as gateway:
        if arguments.out is not None:
            require_outside_data(arguments.out, gateway.config)
        with gateway.catalog.snapshot() as tx:
            master = master_key(tx, gateway.masters)
        shares = split(master, count=arguments.shares, threshold=arguments.threshold)
        made = iso_time(gateway.clock())[:10]
        sheets = [_sheet(share, len(shares), master.key_id, made) for share in shares]
        # Recorded before the first word leaves: nobody gets hold of the key unseen.
        with gateway.journal.begin() as tx:
            note = f"{master.key_id}: {len(shares)} shares, {arguments.threshold} needed"
            administered(gateway, tx, "keys_split", note=note)
    described = {"key_id": master.key_id, "threshold": arguments.threshold, "made": made}
    if arguments.out is not None:
        files = _write_sheets(sheets, arguments.out, master.key_id)
        if arguments.json:
            print_json(described | {"files": [str(file) for file in files]})
        else:
            for file in files:
                say(f"Wrote {file}.")
        return DONE
    if arguments.json:
        listed = [{"number": each.number, "words": " ".join(each.words)} for each in shares]
        print_json(described | {"shares": listed})
        return DONE
    for sheet in sheets:
        sys.stdout.write(f"{sheet}\n")
    return DONE


def run_combine(arguments: argparse.Namespace) -> int:
    """Write the key file that enough key shares make; the data, if there is any, must be its."""
    named = arguments.config or os.environ.get(CONFIG_VARIABLE)
    config = config_of(arguments) if named else None
    if config is not None:
        path = key_file(arguments, config)
    elif arguments.key_file is not None:
        path = arguments.key_file
    else:
        raise UsageError("Say where the key file belongs: -c CONFIG, or --key-file FILE.")
    if path.exists():
        raise UsageError(f"{path} exists and is left alone. Move it away first if it is wrong.")
    master = _gathered(arguments.files).master()
    _write_recorded(master, path, config)
    if arguments.json:
        print_json({"file": str(path), "key_id": master.key_id})
    else:
        say(f"Wrote master key {master.key_id} to {path}.")
    return DONE


def gather(lines: Iterable[str]) -> Gathering:
    """Take key shares from a person's ``lines`` until there are enough, saying what is wrong."""
    gathering = Gathering()
    words: list[str] = []
    _prompt(gathering)
    for line in lines:
        label = f"key share {gathering.given + 1}"
        try:
            fresh = [word for run in word_runs(line) for word in run]
            require_words(fresh, label, first=len(words) + 1)
            words += fresh
            if len(words) >= WORD_COUNT:
                complete, words = words, []
                gathering.add(read_share(complete, label))
                _prompt(gathering)
        except KeyShareError as error:
            _tell(f"{error} Go on with word {len(words) + 1} of {label}.")
        if not gathering.missing:
            break
    return gathering


def _gathered(files: list[Path]) -> Gathering:
    if not files and sys.stdin.isatty():
        return gather(sys.stdin)
    gathering = Gathering()
    for name, text in _texts(files):
        for run in word_runs(text):
            # Sheets that follow each other without their headings.
            size = WORD_COUNT if len(run) % WORD_COUNT == 0 else len(run)
            for start in range(0, len(run), size):
                label = f"key share {gathering.given + 1} (in {name})"
                gathering.add(read_share(run[start : start + size], label))
    return gathering


def _texts(files: list[Path]) -> Iterable[tuple[str, str]]:
    if not files:
        yield "the standard input", sys.stdin.read()
    for file in files:
        try:
            yield str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read as a key share.") from error


def _write_recorded(master: MasterKey, path: Path, config: GatewayConfig | None) -> None:
    """Write the key file once the data was found to be the key's and the act was recorded."""
    if config is None or not has_data(config):
        write_new_key(master, path)
        return
    with opened_with(config, master) as gateway, gateway.journal.begin() as tx:
        administered(gateway, tx, "keys_combine", note=master.key_id)
        write_new_key(master, path)


def _write_sheets(sheets: list[str], folder: Path, key_id: str) -> list[Path]:
    """Write each sheet to a new file that its owner alone may read; UsageError."""
    written: list[Path] = []
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for number, sheet in enumerate(sheets, start=1):
            place = folder / f"key-share-{key_id}-{number}-of-{len(sheets)}.txt"
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            written.append(place)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(sheet)
                file.flush()
                os.fsync(descriptor)
    except OSError as error:
        # Sheets of two splittings in one folder would look like one set.
        for place in written:
            place.unlink()
        raise UsageError(
            f"The key shares cannot be written into {folder} ({error.strerror}). Choose an empty "
            "folder."
        ) from error
    return written


def _sheet(share: KeyShare, count: int, key_id: str, made: str) -> str:
    """Return one sheet: what it is, what to do with it, and the words with their numbers."""
    lines = [
        f"# Sealgate master key {key_id}, key share {share.number} of {count}",
        f"# made {made}; any {share.threshold} of the {count} make the key again:",
        "# sealgate keys combine",
        "# Keep it on paper, apart from the others and from the data.",
    ]
    for start in range(0, WORD_COUNT, _WORDS_A_ROW):
        row = enumerate(share.words[start : start + _WORDS_A_ROW], start=start + 1)
        lines.append("  ".join(f"{number:2} {word:10}" for number, word in row).rstrip())
    return "\n".join(lines) + "\n"


def _prompt(gathering: Gathering) -> None:
    if not gathering.given:
        _tell(f"Type the {WORD_COUNT} words of a key share, in one line or more.")
    elif gathering.missing:
        _tell(f"Good. {gathering.missing} more needed; type the next key share.")
    else:
        _tell("Good. That is enough.")


def _tell(line: str) -> None:
    """Say something to the person who types, apart from what the command prints."""
    sys.stderr.write(f"{line}\n")
