"""Lines of hosts whose address is busy: order, what is left behind, and what a restart finds."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from coordinator.addressline import AddressLines
from coordinator.store.kv import Overlay
from coordinator.store.rows import address_row, address_turn
from tests.support.disk import CrashableStore

A, B = "192.0.2.1", "2001:db8::1"


def test_each_address_has_a_line_of_its_own_first_in_first_out() -> None:
    lines = AddressLines(Overlay(CrashableStore()))
    for ip, host in ((A, "1"), (B, "2"), (A, "3"), (A, "4")):
        lines.join(ip, host)
    assert (len(lines), lines.length(A), lines.length(B), lines.some(5)) == (4, 3, 1, [A, B])
    assert [lines.leave(A)[1], lines.leave(B)[1], lines.leave(A)[1]] == ["1", "2", "3"]
    assert (A in lines, B in lines, len(lines)) == (True, False, 1)


def test_an_address_that_begins_like_another_one_has_another_line() -> None:
    lines = AddressLines(Overlay(CrashableStore()))
    lines.join("192.0.2.10", "ten")
    lines.join("192.0.2.1", "one")
    assert lines.leave("192.0.2.1")[1] == "one"
    assert lines.leave("192.0.2.10")[1] == "ten"


def test_a_key_tells_its_address_and_number() -> None:
    for ip in (A, B, "fe80::1%eth0"):
        for turn in (0, 255, 1 << 40):
            assert address_turn(address_row(ip, turn)) == (ip, turn)


@given(st.lists(st.tuples(st.sampled_from("jlr"), st.sampled_from([A, B, "198.51.100.7"]))))
def test_it_is_as_many_plain_lines_over_any_number_of_restarts(steps: list[tuple[str, str]]) -> None:
    store = CrashableStore()
    rows = Overlay(store)
    lines, plain = AddressLines(rows), dict[str, deque[tuple[int, str]]]()
    for number, (step, ip) in enumerate(steps):
        if step == "j":
            plain.setdefault(ip, deque()).append((lines.join(ip, f"h{number}.test"), f"h{number}.test"))
        elif step == "l" and plain.get(ip):
            assert lines.leave(ip) == plain[ip].popleft()
        elif step == "r":
            store.write(rows.seal())
            rows = Overlay(store)
            lines = AddressLines(rows)
        assert {each: lines.length(each) for each in lines} == {
            each: len(line) for each, line in plain.items() if line
        }
        assert len(lines) == sum(map(len, plain.values()))
