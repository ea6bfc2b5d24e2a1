"""What an object store adds to the contract: lost answers, storms, refusals, servers that differ.

Every test talks HTTP to a real server process; faults are made by a relay in front of it, one for
each request that a test names. Pauses are noted instead of waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
import pytest

from backends.blobs import s3_bucket
from backends.blobs.s3 import ENDLESS_BYTES, PROBE_LIMIT_S, S3BlobStore
from backends.blobs.s3_bucket import ATTEMPT_LIMIT, Bucket, Pacing, S3Settings
from backends.errors import IntegrityError, StorageFullError, StorageUnavailableError
from gateway.model import SECOND_US
from tests.backends.world import sample
from tests.support.faulty_s3 import Ending, Fault, FaultyS3, running_relay
from tests.support.s3 import BUCKET, SECRET_ACCESS_KEY, S3Server, running_juicefs, running_moto
from tests.support.slapd import Authority, free_port

ID, OTHER = b"\1" * 16, b"\2" * 16
FULL_SEGMENT_BYTES = 16_781_440


@dataclass
class NotedPauses:
    """Time that passes only in pauses, each of the longest length that chance allows."""

    fraction: float = 1.0
    now_us: int = 0
    pauses_s: list[float] = field(default_factory=list)

    def pause(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        self.now_us += round(pause_s * SECOND_US)

    def pacing(self) -> Pacing:
        return Pacing(lambda: self.now_us, lambda: self.fraction, self.pause)


@dataclass
class Scene:
    """A store that reaches its server through a relay; ``make`` gives others like it."""

    server: S3Server
    relay: FaultyS3
    pauses: NotedPauses
    prefix: str

    def settings(self, **changes: Any) -> S3Settings:
        usual = {"endpoint": self.relay.endpoint, "prefix": self.prefix, "timeout_s": 10.0}
        return self.server.settings(**usual | changes)

    def prepare(self, **changes: Any) -> S3BlobStore:
        return S3BlobStore.prepare(self.settings(**changes), self.pauses.pacing())

    def make(self, **changes: Any) -> S3BlobStore:
        """Return a store without a trial, so that only the test's own requests are seen."""
        settings = self.settings(**changes)
        return S3BlobStore(
            settings,
            Bucket(settings, self.pauses.pacing()),
            conditional_put=self.server.honours_conditional_put,
        )

    def seen(self, method: str) -> int:
        return self.relay.methods().count(method)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that honours conditional PUT."""
    with running_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="module")
def juicefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that ignores it, and that checks signatures."""
    with running_juicefs(tmp_path_factory.mktemp("juicefs")) as server:
        yield server


@pytest.fixture(params=["moto", "juicefs"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Each server in turn behind a relay, with a prefix of the test's own."""
    server: S3Server = request.getfixturevalue(request.param)
    prefix = "".join(c if c.isalnum() else "-" for c in request.node.name)
    with running_relay(server.endpoint) as relay:
        yield Scene(server, relay, NotedPauses(), f"{prefix}/")


@pytest.fixture
def lenient(moto: S3Server) -> Iterator[Scene]:
    """The server that does not check signatures."""
    with running_relay(moto.endpoint) as relay:
        yield Scene(moto, relay, NotedPauses(), "lenient/")


@pytest.fixture
def strict(juicefs: S3Server) -> Iterator[Scene]:
    """The server that checks signatures."""
    with running_relay(juicefs.endpoint) as relay:
        yield Scene(juicefs, relay, NotedPauses(), "strict/")


def put(store: S3BlobStore, blob_id: bytes, data: bytes) -> None:
    writer = store.create(blob_id)
    writer.write(data)
    writer.finish()


def ids(store: S3BlobStore) -> list[bytes]:
    return sorted(blob_id for blob_id, _ in store.listing())


# --- The trial at the start


def test_the_trial_tells_whether_conditional_put_is_honoured(scene: Scene) -> None:
    """It uses every right once and leaves nothing behind."""
    store = scene.prepare()
    assert store.conditional_put is scene.server.honours_conditional_put
    assert {"GET", "PUT", "DELETE"} == set(scene.relay.methods())
    rest = Bucket(scene.settings(), Pacing()).objects(scene.prefix)
    assert list(rest) == []


def test_a_server_that_does_not_know_conditions_gets_none(scene: Scene) -> None:
    """Status 501 to a conditional PUT is an answer, not a failure."""
    scene.relay.faults = [Fault("PUT", status=501, code="NotImplemented")]
    store = scene.prepare()
    assert not store.conditional_put
    put(store, ID, b"x")
    assert store.read(ID, 0, 9) == b"x"


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ([Fault("PUT", status=200), Fault("PUT", status=200)], "does not return what was just"),
        ([Fault("DELETE", status=204)], "just deleted"),
    ],
)
def test_a_server_that_only_pretends_is_refused(
    scene: Scene, faults: list[Fault], sentence: str
) -> None:
    """An acknowledged write that is not there, or a delete that did nothing."""
    scene.relay.faults = list(faults)
    with pytest.raises(StorageUnavailableError, match=sentence):
        scene.prepare()


def test_the_trial_gives_up_soon(scene: Scene) -> None:
    """Whoever starts the gateway hears within seconds that nothing answers."""
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        scene.prepare(endpoint=f"http://127.0.0.1:{free_port()}")
    assert 0 < sum(scene.pauses.pauses_s) <= PROBE_LIMIT_S


# --- A blob is never overwritten


def test_a_blob_is_never_overwritten_by_another(scene: Scene) -> None:
    """Whether the server helps or not: the first content stays, and the second is an error."""
    store = scene.make()
    put(store, ID, b"first")
    with pytest.raises(StorageUnavailableError, match="something else") as caught:
        put(store, ID, b"other")
    assert ID.hex() in str(caught.value)
    for longer in (b"first and more", b"firs", b""):
        with pytest.raises(StorageUnavailableError, match="something else"):
            put(store, ID, longer)
    assert store.read(ID, 0, 100) == b"first"


@pytest.mark.parametrize("ending", [Ending.CLOSE, Ending.HANG])
def test_an_upload_whose_answer_was_lost_has_succeeded(scene: Scene, ending: Ending) -> None:
    """The server has it, the answer never came: the repeated upload finds its own content."""
    scene.relay.faults = [Fault("PUT", ending, forward=True)]
    store = scene.make(timeout_s=2.0)
    put(store, ID, sample(100_000))
    assert scene.seen("PUT") == 2
    assert scene.pauses.pauses_s == [0.1]
    assert store.read(ID, 0, 1 << 20) == sample(100_000)
    assert ids(store) == [ID]


def test_an_upload_that_a_conflict_stopped_is_repeated(scene: Scene) -> None:
    """409 says that another attempt is still running, not that the object is there."""
    scene.relay.faults = [Fault("PUT", status=409, code="ConditionalRequestConflict")] * 2
    store = scene.make()
    put(store, ID, b"x")
    assert scene.seen("PUT") == 3
    assert store.read(ID, 0, 9) == b"x"


# --- Repeating


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_storm_is_waited_out(scene: Scene, status: int) -> None:
    """Every kind of request is repeated, with pauses that double."""
    scene.relay.faults = [Fault(m, status=status) for m in ("PUT", "GET", "DELETE") for _ in "123"]
    store = scene.make()
    put(store, ID, b"x")
    assert store.size(ID) == 1
    assert store.read(ID, 0, 9) == b"x"
    assert ids(store) == [ID]
    store.delete(ID)
    assert scene.relay.faults == []
    assert scene.pauses.pauses_s == [0.1, 0.2, 0.4] * 3


def test_pauses_are_drawn_from_their_whole_length(scene: Scene) -> None:
    """Full jitter: chance decides between no pause and the longest, which has an end."""
    scene.relay.faults = [Fault("DELETE")] * 9
    scene.pauses.fraction = 0.25
    scene.make().delete(ID)
    doubling = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert scene.pauses.pauses_s == pytest.approx([limit / 4 for limit in doubling])


def test_a_storm_without_end_is_an_error_in_time(scene: Scene) -> None:
    """No attempt begins after the limit; the blob is not there and its id is still free."""
    scene.relay.faults = [Fault("PUT")] * 100
    store = scene.make(retry_for_s=30.0)
    with pytest.raises(StorageUnavailableError, match="status 503, SlowDown"):
        put(store, ID, b"x")
    assert 20 < sum(scene.pauses.pauses_s) <= 30
    scene.relay.faults = []
    assert ids(store) == []
    put(store, ID, b"y")
    assert store.read(ID, 0, 9) == b"y"


def test_attempts_are_counted_too(scene: Scene) -> None:
    """If chance makes every pause short, their number is the limit."""
    scene.relay.faults = [Fault("DELETE")] * 100
    scene.pauses.fraction = 0.0
    with pytest.raises(StorageUnavailableError):
        scene.make().delete(ID)
    assert scene.seen("DELETE") == ATTEMPT_LIMIT


@pytest.mark.parametrize("code", ["InvalidRequest", "AccessDenied"])
def test_what_will_not_pass_is_not_repeated(scene: Scene, code: str) -> None:
    """A request that is wrong now is wrong in a minute."""
    scene.relay.faults = [Fault("GET", status=400 if code == "InvalidRequest" else 403, code=code)]
    with pytest.raises(StorageUnavailableError, match=code):
        scene.make().read(ID, 0, 1)
    assert scene.pauses.pauses_s == []


def test_an_answer_that_never_comes_ends_with_the_time_out(scene: Scene) -> None:
    """The server accepts the connection and says nothing."""
    scene.relay.faults = [Fault("GET", Ending.HANG)]
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        scene.make(timeout_s=0.2, retry_for_s=0.0).read(ID, 0, 1)


def test_a_listing_that_breaks_off_is_taken_up_where_it_was(
    lenient: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every blob comes once, though requests for later pages fail in two ways."""
    monkeypatch.setattr(s3_bucket, "LISTING_BATCH", 2)
    lenient.relay.page_size = 2
    store = lenient.make()
    blob_ids = [bytes([number]) * 16 for number in range(7)]
    for blob_id in blob_ids:
        put(store, blob_id, b"x")
    listing = store.listing()
    found = [next(listing)[0], next(listing)[0]]
    lenient.relay.faults = [Fault("GET"), Fault("GET", Ending.CUT, forward=True)]
    found += [blob_id for blob_id, _ in listing]
    assert found == blob_ids
    assert lenient.relay.faults == []
    assert lenient.pauses.pauses_s == [0.1, 0.2]
    assert lenient.seen("GET") == 4 + 2


def test_servers_list_in_the_order_of_keys_after_any_key(scene: Scene) -> None:
    """What taking up a listing relies on."""
    store = scene.make()
    blob_ids = [bytes([number]) * 16 for number in (3, 1, 2)]
    for blob_id in blob_ids:
        put(store, blob_id, b"x")
    after = f"{scene.prefix}01/{blob_ids[1].hex()}"
    listed = obstore.list(store._bucket._client, scene.prefix, offset=after).collect()
    assert [entry["path"][-32:] for entry in listed] == ["02" * 16, "03" * 16]


def test_a_listing_passes_over_what_is_not_a_blob(scene: Scene) -> None:
    """Another prefix, a probe that was cut off, a name that is nearly right."""
    store = scene.make()
    put(store, ID, b"x")
    put(scene.make(prefix=f"{scene.prefix}other/"), OTHER, b"y")
    bucket = Bucket(scene.settings(), Pacing())
    for key in ("probe/00", f"02/{ID.hex()}", f"01/{ID.hex().upper()}g", "README"):
        bucket.put(scene.prefix + key, b"", conditional=False)
    assert ids(store) == [ID]


# --- Reading


def test_a_range_read_asks_for_the_range_only(scene: Scene) -> None:
    """64 KiB of a segment are 64 KiB on the wire."""
    store = scene.make()
    put(store, ID, sample(300_000))
    assert store.read(ID, 65_680, 65_552) == sample(300_000)[65_680:131_232]
    assert scene.relay.seen[-1].range == "bytes=65680-131231"


@pytest.mark.parametrize("ending", [Ending.SHORT, Ending.CUT, Ending.CLOSE])
def test_an_answer_that_was_cut_is_never_taken_for_the_end(scene: Scene, ending: Ending) -> None:
    """It is asked for again, even if its own header announced no more than came."""
    store = scene.make()
    put(store, ID, sample(1000))
    scene.relay.faults = [Fault("GET", ending, forward=True)]
    assert store.read(ID, 100, 500) == sample(1000)[100:600]
    assert scene.pauses.pauses_s == [0.1]
    scene.relay.faults = [Fault("GET", ending, forward=True)] * 100
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        store.read(ID, 100, 500)


def test_a_full_segment_goes_there_and_back(scene: Scene) -> None:
    """The largest blob there is takes one request, and is read in the middle and whole."""
    store = scene.make()
    data = sample(FULL_SEGMENT_BYTES)
    writer = store.create(ID)
    for start in range(0, len(data), 65_552):
        writer.write(data[start : start + 65_552])
    writer.finish()
    assert scene.seen("PUT") == 1
    assert store.size(ID) == FULL_SEGMENT_BYTES
    assert store.read(ID, 9_000_000, 65_552) == data[9_000_000:9_065_552]
    assert store.read(ID, 0, FULL_SEGMENT_BYTES) == data


# --- Deleting


def test_s3_deletes_one_object_a_request(scene: Scene) -> None:
    """No bulk delete (a POST), which some servers answer without saying what they deleted."""
    store = scene.make()
    put(store, ID, b"x")
    store.delete(ID)
    assert "POST" not in scene.relay.methods()
    assert scene.relay.seen[-1].path == f"/{BUCKET}/{scene.prefix}01/{ID.hex()}"
    assert ids(store) == []


def test_a_delete_whose_answer_was_lost_is_repeated(scene: Scene) -> None:
    """Also on servers that say 404 to the second one."""
    store = scene.make()
    put(store, ID, b"x")
    scene.relay.faults = [
        Fault("DELETE", Ending.CLOSE, forward=True),
        Fault("DELETE", status=404, code="NoSuchKey"),
    ]
    store.delete(ID)
    assert scene.seen("DELETE") == 2
    assert ids(store) == []


# --- Many at once


def test_uploads_at_once_are_bounded(scene: Scene) -> None:
    """Three may be under way, so three come together; a fourth never does."""
    together = threading.Barrier(3, timeout=30)

    def meet() -> None:
        together.wait()

    scene.relay.meanwhile = meet
    store = scene.make(upload_limit=3, timeout_s=60.0)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda n: put(store, bytes([n]) * 16, b"x"), range(12)))
    assert scene.relay.most_puts == 3
    assert len(ids(store)) == 12


def test_a_failed_upload_gives_its_place_back(scene: Scene) -> None:
    """More failures than places, and the next upload still begins."""
    store = scene.make(upload_limit=1)
    scene.relay.faults = [Fault("PUT", status=400, code="InvalidRequest")] * 3
    for _ in range(3):
        with pytest.raises(StorageUnavailableError):
            put(store, ID, b"x")
    put(store, ID, b"x")
    assert ids(store) == [ID]


# --- What an administrator is told


@pytest.mark.parametrize(
    ("status", "code"), [(507, "InsufficientStorage"), (403, "QuotaExceeded"), (500, "Full")]
)
def test_a_full_object_store_says_so(scene: Scene, status: int, code: str) -> None:
    """By its status or by its code; more attempts would not help."""
    code = "XMinioStorageFull" if code == "Full" else code
    scene.relay.faults = [Fault("PUT", status=status, code=code)]
    with pytest.raises(StorageFullError, match="is full"):
        put(scene.make(), ID, b"x")
    assert scene.pauses.pauses_s == []


REQUESTS: dict[str, Callable[[S3BlobStore], object]] = {
    "read": lambda store: store.read(ID, 0, 1),
    "size": lambda store: store.size(ID),
    "write": lambda store: put(store, ID, b"x"),
    "delete": lambda store: store.delete(ID),
    "list": ids,
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_missing_bucket_is_not_a_missing_segment(scene: Scene, request_name: str) -> None:
    """An IntegrityError would send people looking for a damage that is not there."""
    with pytest.raises(StorageUnavailableError, match=r"'elsewhere' .* does not exist; make it"):
        REQUESTS[request_name](scene.make(bucket="elsewhere"))
    assert scene.pauses.pauses_s == []


@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_refused_key_is_named_as_the_reason(strict: Scene, request_name: str) -> None:
    """Without the secret, in message or settings."""
    store = strict.make(secret_access_key="wrong-secret")
    with pytest.raises(StorageUnavailableError, match=r"refuses access .* check the access key"):
        REQUESTS[request_name](store)
    settings = strict.settings()
    assert SECRET_ACCESS_KEY not in repr(settings)
    assert SECRET_ACCESS_KEY not in repr(vars(store))


def test_a_missing_segment_is_told_after_one_request(scene: Scene) -> None:
    """404 is an answer."""
    store = scene.make()
    with pytest.raises(IntegrityError, match=ID.hex()):
        store.read(ID, 0, 1)
    with pytest.raises(IntegrityError, match=ID.hex()):
        store.read(ID, 0, 0)
    assert scene.pauses.pauses_s == []
    assert store.available_bytes() == ENDLESS_BYTES


def test_nothing_from_the_environment_changes_where_requests_go(
    strict: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library reads AWS_ variables; the settings decide about every one that matters."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    for name, value in {
        "AWS_ENDPOINT_URL_S3": nowhere,
        "AWS_ENDPOINT": nowhere,
        "AWS_ACCESS_KEY_ID": "someone-else",
        "AWS_SECRET_ACCESS_KEY": "else",
        "AWS_SESSION_TOKEN": "token",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_BUCKET": "elsewhere",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    store = strict.prepare()
    put(store, ID, b"x")
    assert ids(store) == [ID]
    store.delete(ID)


def test_a_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the authority that the settings name; no variable turns that off."""
    monkeypatch.setenv("AWS_ALLOW_INVALID_CERTIFICATES", "true")
    authority = Authority(tmp_path)
    (tmp_path / "moto").mkdir()
    pauses = NotedPauses()
    with running_moto(tmp_path / "moto", authority.issue("object-store")) as server:
        with pytest.raises(StorageUnavailableError, match="not trusted; see `ca_file`"):
            S3BlobStore.prepare(server.settings(), pauses.pacing())
        assert pauses.pauses_s == []
        store = S3BlobStore.prepare(server.settings(ca_file=authority.ca_file), pauses.pacing())
        put(store, ID, b"x")
        assert ids(store) == [ID]


def test_a_ca_file_that_cannot_be_read_is_an_error(moto: S3Server, tmp_path: Path) -> None:
    """Falling back to the system's authorities would be a surprise."""
    with pytest.raises(StorageUnavailableError, match="ca_file"):
        S3BlobStore.prepare(moto.settings(ca_file=tmp_path / "absent.pem"))
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(StorageUnavailableError, match="ca_file"):
        S3BlobStore.prepare(moto.settings(ca_file=tmp_path / "empty.pem"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "a/b"},
        {"bucket": ""},
        {"endpoint": "http://s3.example.org"},
        {"endpoint": "ftp://127.0.0.1"},
        {"endpoint": "https://key:secret@s3.example.org"},
        {"endpoint": "https://s3.example.org/bucket"},
        {"endpoint": "s3.example.org"},
        {"prefix": "/x/"},
        {"prefix": "x"},
        {"prefix": "../"},
        {"timeout_s": 0},
        {"connect_timeout_s": -1},
        {"upload_limit": 0},
    ],
)
def test_settings_that_cannot_be_right_are_refused(moto: S3Server, wrong: dict[str, Any]) -> None:
    """Above all plain http to another machine."""
    with pytest.raises(ValueError, match=r"bucket|endpoint|prefix|positive"):
        moto.settings(**wrong)


@pytest.mark.parametrize(
    "endpoint", ["https://s3.example.org", "http://[::1]:9", "http://localhost"]
)
def test_plain_http_stays_on_this_machine(moto: S3Server, endpoint: str) -> None:
    """Anything by https, a loopback address by http too."""
    assert moto.settings(endpoint=endpoint, prefix="a/b-1/").endpoint == endpoint
