"""What the rest relies on, tried with obstore alone: a create succeeds for one writer only."""

import sys
from pathlib import Path

import pytest
from obstore.exceptions import AlreadyExistsError

from tests.support.faulty_proxy import Proxy, Request
from tests.support.machines import Network
from tests.support.object_store import ObjectStore

ROUNDS, WRITERS = 20, 2
# Creates the same names as others do, as fast as it can, and prints those that it won.
WRITER = """
import sys
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

bucket, address, key, secret, who, rounds = sys.argv[1:]
store = S3Store(
    bucket, endpoint=address, access_key_id=key, secret_access_key=secret, region="us-east-1",
    client_options={"allow_http": True}, retry_config={"max_retries": 0},
)
for number in range(int(rounds)):
    try:
        store.put(f"race/{number}", who.encode(), mode="create")
        print(number)
    except AlreadyExistsError:
        pass
"""


def test_one_of_several_machines_creates_an_object(
    bucket: ObjectStore, proxy: Proxy, lan: Network, tmp_path: Path
) -> None:
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    arguments = ("digits", proxy.address, "digits", "made-up-secret")
    writers = {
        f"{machine.name} {number}": machine.start(
            *(sys.executable, script, *arguments, f"{machine.name} {number}", ROUNDS)
        )
        for machine in lan.machines
        for number in range(WRITERS)
    }
    won = []
    for who, writer in writers.items():
        output, errors = writer.communicate()
        assert writer.returncode == 0, errors
        won += [(int(number), who) for number in output.split()]
    store = bucket.client()
    assert sorted(won) == [
        (number, bytes(store.get(f"race/{number}").bytes()).decode()) for number in range(ROUNDS)
    ]


def test_server_keeps_what_it_has_confirmed_when_killed(bucket: ObjectStore) -> None:
    store = bucket.client()
    store.put("confirmed", b"this", mode="create")
    bucket.kill()
    bucket.start()
    assert bytes(store.get("confirmed").bytes()) == b"this"
    with pytest.raises(AlreadyExistsError):
        store.put("confirmed", b"that", mode="create")


def test_proxy_counts_and_fails_only_what_it_is_told_to(bucket: ObjectStore, proxy: Proxy) -> None:
    store = bucket.client(proxy.address, retries=0)
    with proxy.counting() as asked:
        store.put("one", b"content")
        assert bytes(store.get("one").bytes()) == b"content"
    assert asked == [Request("PUT", "/digits/one"), Request("GET", "/digits/one")]

    def is_read(request: Request) -> bool:
        return request.method == "GET"

    for faults in ({"cut": True}, {"status": 503}, {"truncate_at": 3}, {"lose_answer": True}):
        with proxy.suffering(of=is_read, **faults):
            store.put("two", b"content")
            with pytest.raises(Exception, match="error"):
                store.get("two").bytes()
    with proxy.suffering(of=is_read, flip=True):
        assert bytes(store.get("two").bytes()) == b"bontent"
    assert bytes(store.get("two").bytes()) == b"content"
