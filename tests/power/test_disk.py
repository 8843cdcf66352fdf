"""The disk keeps what was synced, and is free with everything else."""

from collections.abc import Callable
from random import Random

import pytest

from tests.power.disk import Content, Disk, Loss, Truncate, Write

OLD, NEW = b"o" * 1024, b"n" * 1024


def _outcomes(use: Callable[[Disk], None], files: dict[str, bytes] | None = None) -> list[dict[str, bytes]]:
    """What is found after a loss at the end of some use, in many worlds."""
    found = []
    for seed in range(300):
        disk = Disk(files or {}, rng=Random(seed), sector=512, loss=Loss(1, "truncate bystander"))
        use(disk)
        disk.change("bystander", Content(), Truncate(0))
        assert disk.survivors is not None
        found.append(disk.survivors)
    return found


def _write(disk: Disk, data: bytes, *, offset: int = 0, sync: bool) -> None:
    content = disk.open("x")
    disk.change("x", content, Write(offset, data))
    if sync:
        disk.sync("x", content)


def test_what_was_synced_stays() -> None:
    assert all(found == {"x": NEW} for found in _outcomes(lambda disk: _write(disk, NEW, sync=True), {"x": OLD}))


def test_what_was_not_synced_may_be_there_or_not_or_in_part_and_never_anything_else() -> None:
    images = {found["x"] for found in _outcomes(lambda disk: _write(disk, NEW, sync=False), {"x": OLD})}
    assert {OLD, NEW, OLD[:512] + NEW[512:], NEW[:512] + OLD[512:]} < images
    assert {byte for image in images for byte in image} == set(OLD + NEW)


def test_a_sector_may_be_torn() -> None:
    images = {found["x"] for found in _outcomes(lambda disk: _write(disk, NEW, sync=False), {"x": OLD})}
    assert any(image[:512] not in (OLD[:512], NEW[:512]) for image in images)


def test_bytes_beside_those_written_are_never_harmed() -> None:
    found = _outcomes(lambda disk: _write(disk, b"n", offset=100, sync=False), {"x": OLD})
    assert {one["x"][:100] + one["x"][101:] for one in found} == {OLD[:-1]}


def test_a_later_write_may_survive_an_earlier_one() -> None:
    def use(disk: Disk) -> None:
        _write(disk, b"1", offset=0, sync=False)
        _write(disk, b"2", offset=1000, sync=False)

    assert any((one["x"][0:1], one["x"][1000:1001]) == (b"o", b"2") for one in _outcomes(use, {"x": OLD}))


def test_what_a_file_has_grown_by_without_its_bytes_may_be_anything() -> None:
    gaps = {
        one["x"][1024:2048] for one in _outcomes(lambda disk: _write(disk, b"n", offset=2048, sync=False), {"x": OLD})
    }
    assert {b"", bytes(1024)} < gaps


def test_a_cut_that_was_not_synced_may_not_have_happened() -> None:
    images = {one["x"] for one in _outcomes(lambda disk: disk.change("x", disk.open("x"), Truncate(0)), {"x": OLD})}
    assert images == {b"", OLD}


@pytest.mark.parametrize("folder_synced", [True, False])
def test_a_new_file_is_there_for_sure_only_when_its_folder_was_synced(folder_synced: bool) -> None:
    def use(disk: Disk) -> None:
        _write(disk, NEW, sync=True)
        if folder_synced:
            disk.sync_folder()

    assert ({} in _outcomes(use)) is not folder_synced


@pytest.mark.parametrize("folder_synced", [True, False])
def test_a_removed_file_is_gone_for_sure_only_when_its_folder_was_synced(folder_synced: bool) -> None:
    def use(disk: Disk) -> None:
        disk.delete("x")
        if folder_synced:
            disk.sync_folder()

    assert ({"x": OLD} in _outcomes(use, {"x": OLD})) is not folder_synced


def test_what_is_done_after_the_loss_does_not_count() -> None:
    disk = Disk({"x": OLD}, rng=Random(0), sector=512, loss=Loss(1))
    disk.change("x", disk.open("x"), Truncate(0))
    found = disk.survivors
    _write(disk, NEW, sync=True)
    assert disk.survivors is found
    assert disk.struck == "truncate x"


def test_the_power_fails_at_the_nth_event_of_a_kind_or_at_the_latest() -> None:
    events = ["write x", "sync x", "write x", "write y", "sync x"]
    assert [n for n in range(1, 6) if Loss(2, "sync x").strikes(events[:n])] == [5]
    assert [n for n in range(1, 6) if Loss(3).strikes(events[:n])] == [3]
    assert [n for n in range(1, 6) if Loss(9, "sync x", at_latest=4).strikes(events[:n])] == [4]
