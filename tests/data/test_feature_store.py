"""Tests of the feature store: what it holds after writes, kills and changes, and what is refused."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.support import stored, tiny_models
from vlm_lit.data.features import feature_store
from vlm_lit.data.features.feature_store import FeatureStore, check_room
from vlm_lit.errors import ConfigError
from vlm_lit.files.staged import STAGED
from vlm_lit.schema import Conversation, ImageRef

_WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.support import stored
from vlm_lit.data.features.feature_store import FeatureStore
store = FeatureStore(Path(sys.argv[2]), stored.IDENTITY)
first, step = int(sys.argv[3]), int(sys.argv[4])
for n in range(first, first + step * 400, step):
    store.write({f"image{n}": stored.image(n, size=20_000)})
    print(n, flush=True)
"""


def _writer(root: Path, first: int = 0, step: int = 1) -> subprocess.Popen[str]:
    here = str(Path(stored.__file__).parents[2])
    command = [sys.executable, "-c", _WRITER, here, str(root), str(first), str(step)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _same(store: FeatureStore, number: int, *, size: int = 6) -> None:
    found, expected = store.get(f"image{number}"), stored.image(number, size=size)
    assert found.replacement == expected.replacement
    assert found.counts == expected.counts
    assert [tensor.dtype for tensor in found.features] == [torch.float32, torch.bfloat16]
    for one, other in zip(found.features, expected.features, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found.fields["image_grid_thw"], expected.fields["image_grid_thw"])


def test_what_was_written_is_found_again_by_another_process_as_well(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, stored.IDENTITY)
    store.write({f"image{n}": stored.image(n) for n in range(3)})
    store.write({"image7": stored.image(7)})
    for opened in (store, FeatureStore(tmp_path, stored.IDENTITY), pickle.loads(pickle.dumps(store))):
        assert len(opened) == 4
        for number in (0, 1, 2, 7):
            _same(opened, number)
        assert "image3" not in opened


def test_another_identity_finds_nothing(tmp_path: Path) -> None:
    FeatureStore(tmp_path, stored.IDENTITY).write({"image0": stored.image(0)})
    assert "image0" not in FeatureStore(tmp_path, {"tower": "another"})


def test_an_image_is_known_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, stored.IDENTITY)
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    tiny_models.picture(1).save(one)
    shutil.copy(one, other)
    key = store.key(ImageRef(path=one))
    assert key == store.key(ImageRef(path=other)) == store.key(ImageRef(data=one.read_bytes()))
    tiny_models.picture(2).save(one)
    assert FeatureStore(tmp_path, stored.IDENTITY).key(ImageRef(path=one)) != key


def test_pixels_without_a_file_are_known_by_their_values(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, stored.IDENTITY)
    picture = tiny_models.picture(1, (20, 30))
    key = store.key(ImageRef(pixels=picture))
    assert key == store.key(ImageRef(pixels=picture.copy()))
    changed = picture.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    assert store.key(ImageRef(pixels=changed)) != key
    assert store.key(ImageRef(pixels=picture.rotate(90, expand=True))) != key


def test_conversations_are_found_only_with_all_their_images(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, stored.IDENTITY)
    refs = [ImageRef(data=bytes([n])) for n in range(3)]
    store.write({store.key(ref): stored.image(n) for n, ref in enumerate(refs[:2])})
    two = Conversation(id="two", turns=(), images=(refs[1], refs[0]))
    found = store.found([two])
    assert found is not None
    assert [image.counts["num_tiles"] for image in found[0]] == [1, 0]
    assert store.found([two, Conversation(id="new", turns=(), images=(refs[2],))]) is None
    assert store.found([Conversation(id="gone", turns=(), images=(ImageRef(path=tmp_path / "no.png"),))]) is None
    assert store.found([Conversation(id="words", turns=(), images=())]) is None


@pytest.mark.slow
def test_two_processes_fill_a_store_and_one_is_killed_while_it_writes(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, first, 2) for first in (0, 1)]
    for killed in writers:
        assert killed.stdout is not None
        said = [int(killed.stdout.readline()) for _ in range(10)]
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(f"*/{STAGED}")) and time.monotonic() < deadline and killed.poll() is None:
            pass  # in the middle of a file
        killed.send_signal(signal.SIGKILL)
        said += [int(line) for line in killed.communicate()[0].split()]
        assert killed.returncode == -signal.SIGKILL
        store = FeatureStore(tmp_path, stored.IDENTITY)
        for number in said:
            _same(store, number, size=20_000)
    assert all(f"image{n}" in store for n in range(20))
    store.write({"image1000": stored.image(1000)})
    _same(FeatureStore(tmp_path, stored.IDENTITY), 1000)


def test_a_store_sees_what_another_process_adds(tmp_path: Path) -> None:
    mine, theirs = FeatureStore(tmp_path, stored.IDENTITY), FeatureStore(tmp_path, stored.IDENTITY)
    theirs.write({"image4": stored.image(4)})
    assert "image4" not in mine
    mine.refresh()
    _same(mine, 4)


def test_only_old_leftovers_are_swept(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, stored.IDENTITY)
    store.write({"image0": stored.image(0)})
    old, new = store.folder / ".old.safetensors.tmp-1", store.folder / ".new.safetensors.tmp-1"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    store.sweep()
    assert sorted(path.name for path in store.folder.glob(STAGED)) == [new.name]
    _same(store, 0)


def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, stored.IDENTITY)
    store.write({"image0": stored.image(0)})
    (shard,) = store.folder.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=rf"{re.escape(str(shard))} cannot be read .* Delete it"):
        FeatureStore(tmp_path, stored.IDENTITY)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = FeatureStore(tmp_path / "file", stored.IDENTITY)
    with pytest.raises(ConfigError, match=r"cannot be written to .*file"):
        store.write({"image0": stored.image(0)})


def test_too_much_is_refused_with_what_it_needs_and_what_there_is(tmp_path: Path) -> None:
    check_room(tmp_path / "new" / "folder", images=10, bytes_each=1000, most=None)
    check_room(tmp_path, images=10, bytes_each=1000, most=10_000)
    with pytest.raises(ConfigError, match=r"10 images need about 10 kB \(1 kB each\).* allows 9 kB.*Nothing was wr"):
        check_room(tmp_path, images=10, bytes_each=1000, most=9_000)
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(ConfigError, match=r"1,000 images need .* GB .* has .* GB free, of which 1\.07 GB are to stay"):
        check_room(tmp_path, images=1000, bytes_each=(free - feature_store.LEFT_FREE / 2) / 1000, most=None)


def test_a_bit_that_changed_on_the_disk_is_noticed(tmp_path: Path) -> None:
    FeatureStore(tmp_path, stored.IDENTITY).write({f"image{n}": stored.image(n) for n in range(2)})
    shard = next(tmp_path.glob("*/*.safetensors"))
    content = shard.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for place in (header, (header + len(content)) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 4
        shard.write_bytes(bytes(changed))
        store = FeatureStore(tmp_path, stored.IDENTITY)
        with pytest.raises(ConfigError, match=re.escape(f"{shard} cannot be read (")):
            _ = [store.get(f"image{number}") for number in range(2)]


@pytest.mark.parametrize(
    "notes",
    [None, {"names": "[" * 100_000}, {"names": "7"}, {"names": '["features of another"]'},
     {"names": '["replacement"]', "checksums": "[7]"}, {"names": '["replacement"]', "checksums": '{"image9": 1}'}],
)  # fmt: skip
def test_notes_of_a_file_that_are_no_notes(notes: dict[str, str] | None, tmp_path: Path) -> None:
    FeatureStore(tmp_path, stored.IDENTITY).write({"image0": stored.image(0)})
    shard = next(tmp_path.glob("*/*.safetensors"))
    save_file(load_file(shard), shard, metadata=notes)
    with pytest.raises(ConfigError, match=re.escape(f"{shard} cannot be read (")):
        FeatureStore(tmp_path, stored.IDENTITY).get("image0")


def test_files_of_earlier_versions_have_no_checksums(tmp_path: Path) -> None:
    FeatureStore(tmp_path, stored.IDENTITY).write({"image0": stored.image(0)})
    shard = next(tmp_path.glob("*/*.safetensors"))
    with safe_open(shard, framework="pt") as opened:
        names = opened.metadata()["names"]
    save_file(load_file(shard), shard, metadata={"names": names})
    _same(FeatureStore(tmp_path, stored.IDENTITY), 0)
