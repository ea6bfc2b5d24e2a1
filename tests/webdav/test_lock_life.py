"""How long locks live, their owners, refreshing them and UNLOCK, through the real door."""

from __future__ import annotations

import pytest

from auth.policy import Policy
from gateway.locking import LOCK_LIMIT
from gateway.model import Action
from tests.door.support import grant, group, outline
from tests.webdav.office import FILE, FOLDER, Office, condition, text
from tests.webdav.support import header, parsed


@pytest.mark.parametrize(
    ("timeout", "granted"),
    [("Infinite", 3600), ("Second-999999999", 3600), ("Second-60", 60), ("", 600), ("odd", 600)],
)
def test_nobody_locks_for_ever(office: Office, timeout: str, granted: int) -> None:
    """An hour is the most unless policy says something else; ten minutes where nobody asks."""
    answer = office.lock(timeout=timeout)
    assert text(parsed(answer), "lockdiscovery/activelock/timeout") == f"Second-{granted}"


def test_policy_caps_the_time(office: Office) -> None:
    """Also of who asks for nothing."""
    everything = grant("radiology", *Action)
    office.gate.policy.replace(Policy((group("staff", everything, lock_timeout_s=90),)))
    for sent in ({}, {"timeout": "Infinite"}):
        answer = office.lock(scope="shared", **sent)
        assert text(parsed(answer), "lockdiscovery/activelock/timeout") == "Second-90"


def test_an_owner_cannot_break_out_of_its_element(office: Office) -> None:
    """Markup in it stays inert, what stands behind it is dropped."""
    owner = "<D:owner>&lt;script&gt; \U0001f512</D:owner>tail &gt; x"
    assert office.lock(owner=owner).status == 200
    answer = office.ask("PROPFIND", FILE, depth="0", user="bob")
    assert text(parsed(answer), "response/propstat/prop/lockdiscovery/activelock/owner") == (
        "<script> \U0001f512"
    )
    assert b"tail" not in answer.body


@pytest.mark.parametrize("owner", ["", "<D:owner/>", "<D:owner>  <D:href/></D:owner>"])
def test_without_an_owner_the_principal_is_named(office: Office, owner: str) -> None:
    """So that who looks at the lock sees a name in any case."""
    office.token(owner=owner)
    for user in ("alice", "bob"):
        (active,) = office.locks(user=user)
        assert text(active, "owner") == "Alice"


def test_the_number_of_locks_is_bounded(office: Office) -> None:
    """507, and a record of it: one person's locks cannot fill the catalog."""
    office.gate.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO locks SELECT 'urn:uuid:' || i, randomblob(16), 1, 0, 'id-alice', 'Alice', x'', "
        "60, ? FROM n",
        LOCK_LIMIT,
        office.gate.clock() + 60_000_000,
    )
    office.gate.new_records()
    refused = office.lock(f"{FOLDER}/new")
    assert refused.status == 507
    assert str(LOCK_LIMIT) in refused.body.decode()
    assert ("lock", "failed") in outline(office.gate.new_records())
    assert office.lock(user="bob").status == 200
    office.said.clear()  # his own token


def test_a_refresh_keeps_the_token_and_starts_the_time_anew(office: Office) -> None:
    """LOCK without a body, with If (section 9.10.2); Depth says nothing there."""
    token = office.token(timeout="Second-77")
    office.gate.clock.forward(70)
    for sent, expected in (
        ({"timeout": "Second-99", "depth": "1"}, "Second-99"),
        ({}, "Second-99"),
        ({"timeout": "Infinite"}, "Second-3600"),
    ):
        answer = office.refresh(FILE, f"({token})", **sent)
        assert answer.status == 200
        assert header(answer, "Lock-Token") == ""
        (active,) = parsed(answer).findall("{DAV:}lockdiscovery/{DAV:}activelock")
        assert f"<{text(active, 'locktoken/href')}>" == token
        assert text(active, "timeout") == expected
        assert text(active, "owner/href") == "alice@pc7"


def test_a_refresh_is_for_the_owner_with_the_token(office: Office) -> None:
    """Another's token, a wrong one, one of another place and one that ran out: 412; none: 400."""
    token = office.token(timeout="Second-300")
    elsewhere = office.token(f"{FOLDER}/other")
    wrong = "<urn:uuid:00000000-0000-4000-8000-000000000000>"
    assert office.refresh(FILE, f"({token})", user="bob").status == 412
    for given in (wrong, elsewhere):
        assert office.refresh(FILE, f"({given})").status == 412
    assert office.refresh(FILE, f"(Not {wrong})").status == 412
    assert office.refresh(f"{FOLDER}/none", f"({token})").status == 412
    assert office.ask("LOCK", FILE).status == 400
    office.gate.clock.forward(300)
    assert office.refresh(FILE, f"({token})").status == 412
    assert office.put(user="bob") == 204


def test_one_lock_is_refreshed_at_a_time(office: Office) -> None:
    """Of two shared ones in one header none; what is no lock of one's own there does not count."""
    first, second = office.token(scope="shared"), office.token(scope="shared")
    assert office.refresh(FILE, f"({first} {second})").status == 400
    assert office.refresh(FILE, f"({first}) (Not <DAV:no-lock>)").status == 200
    assert office.refresh(FILE, f"({first})").status == 200


def test_a_deep_lock_is_refreshed_by_the_address_of_a_member(office: Office) -> None:
    """Any address that the lock covers will do; the answer tells of the lock's root."""
    token = office.token(FOLDER)
    for given in (f"({token})", f"<{FOLDER}/> ({token})"):
        answer = office.refresh(FILE, given)
        assert answer.status == 200
        root = text(parsed(answer), "lockdiscovery/activelock/lockroot/href")
        assert root == f"{FOLDER}/"


def test_unlock(office: Office) -> None:
    """204 for the owner, brackets or not; by a member's address too (section 9.11)."""
    token = office.token(FOLDER)
    assert office.ask("UNLOCK", FILE, lock_token=token).status == 204
    assert office.lives() == 0
    assert office.ask("UNLOCK", FILE, lock_token=token).status == 409
    token = office.token().strip("<>")
    assert office.ask("UNLOCK", FILE, lock_token=token).status == 204


def test_unlock_of_what_is_not_ones_own_lock_there_is_refused(office: Office) -> None:
    """409 for a wrong token, 403 for another's, 400 without, 415 with a body, 404 for nothing."""
    token = office.token()
    wrong = office.ask("UNLOCK", f"{FOLDER}/other", lock_token=token)
    assert wrong.status == 409
    assert condition(wrong)[0] == "lock-token-matches-request-uri"
    assert office.ask("UNLOCK", FILE, lock_token="<urn:uuid:none>").status == 409
    assert office.ask("UNLOCK", FILE, lock_token=token, user="bob").status == 403
    for empty in ({}, {"lock_token": ""}, {"lock_token": "<>"}):
        assert office.ask("UNLOCK", FILE, **empty).status == 400
    assert office.ask("UNLOCK", FILE, b"x", lock_token=token).status == 415
    assert office.ask("UNLOCK", f"{FOLDER}/none", lock_token=token).status == 404
    assert office.lives() == 1


def test_the_lock_token_header_submits_nothing(office: Office) -> None:
    """It names a lock to UNLOCK and is no If (section 10.5)."""
    token = office.token()
    assert office.put(lock_token=token) == 423
