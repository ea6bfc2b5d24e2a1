"""``sealgate versions list|show|restore`` and ``sealgate trash list|restore|purge``.

What an administrator does to the past of a share, beside a running gateway; each act and each
look into content leaves an audit record.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from backends.catalog.engine import giving_way
from backends.content import Content
from backends.errors import IntegrityError, IsAFolderError, NotFoundError, ParentMissingError
from backends.past import Trashed
from backends.vault import Node
from gateway import locking
from gateway.app import Gateway
from gateway.audit.record import iso_time
from gateway.commands.output import (
    DONE,
    UsageError,
    administrative,
    opened,
    operator,
    print_json,
    say,
)
from gateway.errors import InvalidPathError
from gateway.model import Transaction, TrashedNode, VersionInfo
from gateway.paths import VirtualPath

BLOCK_SIZE_BYTES = 1024 * 1024


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands and their options."""
    versions = commands.add_parser("versions", help="look at and bring back older versions")
    kinds = versions.add_subparsers(dest="kind", required=True, metavar="list|show|restore")
    listed = kinds.add_parser("list", help="show the versions of a file")
    show = kinds.add_parser("show", help="write one version's content to a file or to the output")
    restore = kinds.add_parser("restore", help="make an older version the current one again")
    for parser in (listed, show, restore):
        parser.add_argument("path", help="/SHARE/FOLDER/FILE")
    for parser in (show, restore):
        parser.add_argument("version", help="the version's id, or its first digits")
    show.add_argument("-o", "--output", type=Path, help="a new file; standard output without it")
    trash = commands.add_parser("trash", help="look at and bring back what was deleted")
    kinds = trash.add_subparsers(dest="kind", required=True, metavar="list|restore|purge")
    in_trash = kinds.add_parser("list", help="show what lies in the trash of a share")
    bring_back = kinds.add_parser("restore", help="put something back into the tree")
    purge = kinds.add_parser("purge", help="remove something for good")
    for parser in (in_trash, bring_back, purge):
        parser.add_argument("share")
    for parser in (bring_back, purge):
        parser.add_argument("id", help="its id in the list, or the first digits")
    bring_back.add_argument("--to", default="", help="another place: /SHARE/FOLDER/NAME")
    for parser, run in (
        (listed, run_list),
        (show, run_show),
        (restore, run_restore),
        (in_trash, run_trash_list),
        (bring_back, run_trash_restore),
        (purge, run_trash_purge),
    ):
        parser.add_argument("-c", "--config", default="")
        parser.add_argument("--json", action="store_true")
        parser.set_defaults(run=run)


def run_list(arguments: argparse.Namespace) -> int:
    """Show the versions of a file, newest first."""
    with opened(arguments) as gateway, gateway.catalog.snapshot() as tx:
        found = gateway.vault.past.versions(tx, _file(gateway, tx, arguments.path).row)
    for version in found:
        if arguments.json:
            print_json(_version_line(version))
        else:
            mark = "*" if version.current else " "
            damage = "  DAMAGED: see 'sealgate scrub'" if version.damaged else ""
            say(
                f"{mark} {version.version_id}  {iso_time(version.created_us)}  "
                f"{version.size_bytes:>14,}  {version.author}{damage}"
            )
    return DONE


def run_show(arguments: argparse.Namespace) -> int:
    """Write one version's content out; the record of that comes first."""
    with opened(arguments) as gateway:
        with gateway.catalog.snapshot() as tx:
            file = _file(gateway, tx, arguments.path)
            chosen = _version(gateway, tx, file, arguments.version)
            info, content = gateway.vault.past.open(tx, file.row, bytes.fromhex(chosen))
        record = administrative("versions_show")
        gateway.journal.append_durably(
            replace(record, bytes=info.size_bytes, **_about(file, info.version_id))
        )
        if arguments.output is None:
            _write_out(content, sys.stdout.buffer)
        else:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(arguments.output, flags, 0o600), "wb") as out:
                    _write_out(content, out)
            except OSError as error:
                raise UsageError(
                    f"{arguments.output} cannot be written ({error.strerror}); name a new file."
                ) from error
    return DONE


def run_restore(arguments: argparse.Namespace) -> int:
    """Make an older version the current one again, as a new version."""
    with opened(arguments) as gateway, gateway.journal.begin() as tx:
        file = _file(gateway, tx, arguments.path)
        chosen = _version(gateway, tx, file, arguments.version)
        _require_unlocked(gateway, tx, file.path)
        restored = gateway.vault.restore(tx, file, bytes.fromhex(chosen), author=operator())
        new_id = restored.row.version_id.hex()
        record = administrative("restore", note=f"from version {chosen}")
        gateway.journal.append(tx, replace(record, **_about(restored, new_id)))
    if arguments.json:
        print_json({"path": str(file.path), "restored": chosen, "version": new_id})
    else:
        say(f"{file.path} has the content of version {chosen} again (version {new_id}).")
    return DONE


def run_trash_list(arguments: argparse.Namespace) -> int:
    """Show what lies in the trash of a share, oldest first."""
    with opened(arguments) as gateway, gateway.catalog.snapshot() as tx:
        share = gateway.vault.share(tx, arguments.share)
        found = [trashed.info for trashed in gateway.vault.past.trash(tx, share)]
    for info in found:
        if arguments.json:
            print_json(_trash_line(info))
        else:
            gone = "" if info.folder_lives else "  (its folder is gone too)"
            say(
                f"{info.node_id}  {iso_time(info.deleted_us)}  {info.size_bytes:>14,}  "
                f"{info.path}{'/' if info.kind == 'folder' else ''}  by {info.deleted_by}{gone}"
            )
    return DONE


def run_trash_restore(arguments: argparse.Namespace) -> int:
    """Put something from the trash back into the tree."""
    with opened(arguments) as gateway, gateway.journal.begin() as tx:
        trashed = _in_trash(gateway, tx, arguments.share, arguments.id)
        target = _path(arguments.to) if arguments.to else trashed.info.path
        folder = _folder(gateway, tx, target)
        _require_unlocked(gateway, tx, folder.path)
        row = gateway.vault.past.bring_back(tx, trashed, folder.row, target.name)
        node = Node(folder.share, row, target)
        record = administrative("trash_restore", note=str(trashed.info.path))
        gateway.journal.append(tx, replace(record, **_about(node, row.version_id.hex())))
    if arguments.json:
        print_json({"id": trashed.info.node_id, "path": str(target)})
    else:
        say(f"{target} is back.")
    return DONE


def run_trash_purge(arguments: argparse.Namespace) -> int:
    """Remove something in the trash for good."""
    with opened(arguments) as gateway:
        with gateway.journal.begin() as tx:
            trashed = _in_trash(gateway, tx, arguments.share, arguments.id)
            count = gone = _purge(gateway, tx, trashed)
        while gone:
            with giving_way(), gateway.journal.begin() as tx:
                gone = _purge(gateway, tx, trashed)
            count += gone
        with gateway.catalog.snapshot() as tx:
            if not gateway.vault.past.is_gone(tx, trashed):
                raise IntegrityError(
                    f"{count} files and folders of {trashed.info.path} are gone for good; what is "
                    "left was edited in the catalog. 'sealgate scrub' tells what."
                )
    if arguments.json:
        print_json({"id": trashed.info.node_id, "removed": count})
    else:
        say(f"{trashed.info.path} is gone for good ({count} files and folders).")
    return DONE


def _purge(gateway: Gateway, tx: Transaction, trashed: Trashed) -> int:
    """Remove a part, with its record; return how many nodes went."""
    count = gateway.vault.past.purge(tx, trashed)
    if count:
        node = Node(trashed.share, trashed.row, trashed.info.path)
        record = replace(administrative("purge"), count=count, **_about(node, ""))
        gateway.journal.append(tx, record)
    return count


def _about(node: Node, version_id: str) -> dict[str, Any]:
    return {
        "share": node.share.name,
        "node_id": node.id.hex(),
        "version_id": version_id,
        "path": str(node.path),
    }


def _path(text: str) -> VirtualPath:
    try:
        path = VirtualPath.parse(text)
    except InvalidPathError as error:
        raise UsageError(f"'{text}' is no path: {error}") from error
    if path.is_root:
        raise UsageError("Name a file inside a share: /SHARE/FOLDER/FILE.")
    return path


def _file(gateway: Gateway, tx: Transaction, text: str) -> Node:
    node = gateway.vault.find(tx, _path(text))
    if node is None:
        raise NotFoundError(f"There is no {text}.")
    if node.is_folder:
        raise IsAFolderError(f"{text} is a folder; only files have versions.")
    return node


def _folder(gateway: Gateway, tx: Transaction, target: VirtualPath) -> Node:
    node = None if len(target.parts) < 2 else gateway.vault.find(tx, target.parent)
    if node is None or not node.is_folder:
        raise ParentMissingError(
            f"The folder for {target} does not exist; name another place with --to."
        )
    return node


def _version(gateway: Gateway, tx: Transaction, file: Node, start: str) -> str:
    ids = [version.version_id for version in gateway.vault.past.versions(tx, file.row)]
    return _chosen(ids, start, "version of this file")


def _in_trash(gateway: Gateway, tx: Transaction, name: str, start: str) -> Trashed:
    share = gateway.vault.share(tx, name)
    in_trash = {each.info.node_id: each for each in gateway.vault.past.trash(tx, share)}
    return in_trash[_chosen(in_trash, start, f"thing in the trash of {name}")]


def _chosen(ids: Iterable[str], start: str, what: str) -> str:
    found = [each for each in ids if each.startswith(start.lower())]
    if len(found) != 1:
        many = f"{len(found)} ids begin" if found else "No id begins"
        raise UsageError(f"{many} with {start!r}: name one {what}, as the list shows it.")
    return found[0]


def _require_unlocked(gateway: Gateway, tx: Transaction, path: VirtualPath) -> None:
    lineage = gateway.vault.lineage(tx, path)
    rows = locking.covering(tx, lineage, gateway.clock())
    if rows:
        raise locking.refusal(rows[0])


def _write_out(content: Content, out: BinaryIO) -> None:
    offset = 0
    while offset < content.size_bytes:
        data = content.read_at(offset, BLOCK_SIZE_BYTES)
        out.write(data)
        offset += len(data)
    out.flush()


def _version_line(version: VersionInfo) -> dict[str, Any]:
    return {
        "version_id": version.version_id,
        "current": version.current,
        "size_bytes": version.size_bytes,
        "created": iso_time(version.created_us),
        "modified": iso_time(version.modified_us),
        "author": version.author,
        "sha256": version.sha256 or None,
        "damaged": version.damaged,
    }


def _trash_line(info: TrashedNode) -> dict[str, Any]:
    return {
        "id": info.node_id,
        "kind": info.kind.value,
        "path": str(info.path),
        "folder_lives": info.folder_lives,
        "size_bytes": info.size_bytes,
        "deleted": iso_time(info.deleted_us),
        "deleted_by": info.deleted_by,
    }
