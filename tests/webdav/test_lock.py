"""LOCK, and what locks mean to other methods, through the real door (RFC 4918)."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from auth.policy import PathRule
from gateway.model import Action
from tests.door.support import outline, staff
from tests.webdav.office import FILE, FOLDER, Office, condition, message, text
from tests.webdav.support import header, parsed


def test_a_lock_is_granted_and_told(office: Office) -> None:
    """The answer holds all of it (section 9.10.1)."""
    answer = office.lock(timeout="Second-120", depth="0")
    assert answer.status == 200
    token = header(answer, "Lock-Token")
    assert re.fullmatch(r"<urn:uuid:[0-9a-f-]{36}>", token)
    (active,) = parsed(answer).findall("{DAV:}lockdiscovery/{DAV:}activelock")
    assert f"<{text(active, 'locktoken/href')}>" == token
    assert text(active, "timeout") == "Second-120"
    assert text(active, "depth") == "0"
    assert text(active, "lockroot/href") == FILE
    assert text(active, "owner/href") == "alice@pc7"
    assert active.find("{DAV:}lockscope/{DAV:}exclusive") is not None
    assert active.find("{DAV:}locktype/{DAV:}write") is not None
    (told,) = office.locks()
    assert ET.tostring(told) == ET.tostring(active)


def test_who_else_wants_it_is_told_who_has_it_until_when(office: Office) -> None:
    """423 to LOCK and to PUT, with the address of the lock and its holder's name."""
    office.token(FOLDER, timeout="Second-600")
    office.gate.clock.forward(60)
    until = "runs out 2027-01-15 08:10:00 UTC"
    refused = office.lock(user="bob")
    assert refused.status == 423
    assert condition(refused) == ("no-conflicting-lock", f"{FOLDER}/")
    stored = office.ask("PUT", FILE, b"new", user="bob")
    assert stored.status == 423
    assert condition(stored) == ("lock-token-submitted", f"{FOLDER}/")
    for answer in (refused, stored):
        assert "Locked by Alice" in message(answer)
        assert until in message(answer)


def test_others_see_the_lock_and_not_its_token(office: Office) -> None:
    """Section 6.8; the fixture looks at everything that Bob was ever told."""
    office.token(FOLDER)
    (mine,), (theirs,) = office.locks(), office.locks(user="bob")
    assert mine.find("{DAV:}locktoken") is not None
    assert theirs.find("{DAV:}locktoken") is None
    assert theirs.findtext("{urn:sealgate}holder") == "Alice"
    assert mine.find("{urn:sealgate}holder") is None
    assert text(theirs, "owner/href") == "alice@pc7"
    assert text(theirs, "lockroot/href") == f"{FOLDER}/"
    assert len(office.locks(FOLDER, user="bob", depth="1")) == 3


def test_the_holder_needs_the_token_too(office: Office) -> None:
    """Another program of the same person must not overwrite what is open in this one."""
    token = office.token()
    assert office.put() == 423
    assert office.put(if_=f"({token})") == 204
    assert office.put(user="bob", if_=f"({token})") == 412
    assert office.put(user="bob", if_=f"({token}) (Not <DAV:no-lock>)") == 423


def test_shared_locks_go_together(office: Office) -> None:
    """Each holder has a token of its own, and an exclusive one does not join them."""
    mine = office.token(scope="shared")
    theirs = office.lock(scope="shared", user="bob")
    assert theirs.status == 200
    office.said.clear()  # his own token
    assert office.lock().status == 423
    assert len(office.locks()) == 2
    assert office.put() == 423
    assert office.put(if_=f"({mine})") == 204


def test_a_lock_on_a_free_name_makes_an_empty_file(office: Office) -> None:
    """201 (section 9.10.4); 409 without its folder, 405 for an address that ends like a folder's."""
    answer = office.lock(f"{FOLDER}/new")
    assert answer.status == 201
    assert text(parsed(answer), "lockdiscovery/activelock/lockroot/href") == f"{FOLDER}/new"
    assert header(office.ask("HEAD", f"{FOLDER}/new"), "Content-Length") in {"0", ""}
    assert office.lock("/radiology/none/new").status == 409
    assert office.lock(f"{FILE}/new").status == 409
    slashed = office.lock(f"{FOLDER}/newer/")
    assert slashed.status == 405
    assert "LOCK" not in header(slashed, "Allow").split(", ")
    assert office.lock(f"{FOLDER}/", depth="0").status == 200
    assert office.lives() == 2


def test_a_refused_lock_makes_nothing(office: Office) -> None:
    """For whatever reason it is refused."""
    office.token(FOLDER)
    before = office.gate.content()
    path = f"{FOLDER}/new"
    for answer in (
        office.lock(path, user="bob"),
        office.lock(path, user="rita"),
        office.lock(path, depth="1"),
        office.lock(path, owner=f"<D:owner>{'x' * 9000}</D:owner>"),
        office.lock(path, scope="odd"),
        office.lock(path, if_="(<urn:uuid:00000000-0000-4000-8000-000000000000>)"),
        office.ask("LOCK", path, b""),
    ):
        assert answer.status in {400, 403, 412, 413, 423}
    assert office.gate.content() == before


def test_a_name_in_a_folder_that_is_locked_needs_the_folders_token(office: Office) -> None:
    """A lock on a free name adds a member (section 7.4): it is a token that is missing there."""
    token = office.token(FOLDER, depth="0")
    path = f"{FOLDER}/new"
    refused = office.lock(path, user="bob")
    assert condition(refused) == ("lock-token-submitted", f"{FOLDER}/")
    assert office.lock(path, if_=f"<{FOLDER}/> ({token})").status == 201


def test_depth_belongs_to_the_lock(office: Office) -> None:
    """0 and infinity, also without a header as Windows sends it; nothing else."""
    for sent, depth in (
        ({"depth": "0"}, "0"),
        ({"depth": "Infinity"}, "infinity"),
        ({}, "infinity"),
    ):
        answer = office.lock(FOLDER, **sent)
        assert text(parsed(answer), "lockdiscovery/activelock/depth") == depth
        token = header(answer, "Lock-Token")
        assert office.ask("UNLOCK", FOLDER, lock_token=token).status == 204
    assert office.lock(FOLDER, depth="1").status == 400


def test_a_deep_lock_over_a_lock_below_names_what_prevented_it(office: Office) -> None:
    """207 with 423 for the member and 424 for the folder (section 9.10.9)."""
    office.token(f"{FOLDER}/other")
    refused = office.lock(FOLDER, user="bob")
    assert refused.status == 207
    answers = {text(one, "href"): one for one in parsed(refused).findall("{DAV:}response")}
    assert {href: text(one, "status") for href, one in answers.items()} == {
        f"{FOLDER}/other": "HTTP/1.1 423 Locked",
        f"{FOLDER}/": "HTTP/1.1 424 Failed Dependency",
    }
    member = answers[f"{FOLDER}/other"]
    assert text(member, "error/no-conflicting-lock/href") == f"{FOLDER}/other"
    assert "Locked by Alice" in text(member, "responsedescription")
    assert office.lives() == 1
    assert ("lock", "denied") in outline(office.gate.new_records())


def test_a_deep_lock_over_a_hidden_lock_does_not_name_it(office: Office) -> None:
    """What a listing would not show stays hidden in a refusal."""
    office.token(f"{FOLDER}/other")
    hide = PathRule("/a/other", deny=frozenset({Action.LIST, Action.READ, Action.WRITE}))
    office.gate.policy.replace(staff(hide))
    refused = office.lock(FOLDER, user="bob")
    assert refused.status == 423
    assert condition(refused) == ("no-conflicting-lock", "")
    assert b"other" not in refused.body


def test_a_folder_with_a_locked_member_is_not_deleted(office: Office) -> None:
    """207 naming the member (section 9.6.1); with the tokens of all, it goes."""
    tokens = [office.token(FILE), office.token(f"{FOLDER}/other")]
    refused = office.ask("DELETE", FOLDER, user="bob")
    assert refused.status == 207
    (only,) = parsed(refused).findall("{DAV:}response")
    assert text(only, "status") == "HTTP/1.1 423 Locked"
    given = f"<{FILE}> ({tokens[0]}) <{FOLDER}/other> ({tokens[1]})"
    assert office.ask("DELETE", FOLDER, if_=given).status == 204
    assert office.lives() == 0


def test_a_move_needs_the_tokens_of_both_ends(office: Office) -> None:
    """Each may be submitted under its own address, or without one (section 10.4)."""
    source, target = office.token(FILE), office.token(f"{FOLDER}/other")
    to = {"destination": f"http://localhost{FOLDER}/other"}
    tagged = f"<{FILE}> ({source}) <http://localhost{FOLDER}/other> ({target})"
    assert office.ask("MOVE", FILE, **to).status == 423
    assert office.ask("MOVE", FILE, if_=f"({source})", **to).status == 423
    assert office.ask("MOVE", FILE, if_=f"<{FOLDER}/other> ({target})", **to).status == 423
    assert office.ask("MOVE", FILE, if_=f"({source} {target})", **to).status == 412
    assert office.ask("MOVE", FILE, if_=tagged, **to).status == 204
    (left,) = office.locks(f"{FOLDER}/other")
    assert f"<{text(left, 'locktoken/href')}>" == target
    assert office.lives() == 1


def test_a_copy_needs_the_token_of_its_target_alone(office: Office) -> None:
    """And takes no lock along (section 7.6)."""
    office.token(FILE)
    target = office.token(f"{FOLDER}/other")
    to = {"destination": f"{FOLDER}/other"}
    assert office.ask("COPY", FILE, user="bob", **to).status == 423
    assert office.ask("COPY", FILE, if_=f"<{FOLDER}/other> ({target})", **to).status == 204
    assert office.ask("COPY", FILE, destination=f"{FOLDER}/copy").status == 201
    assert office.put(f"{FOLDER}/copy", user="bob") == 204
