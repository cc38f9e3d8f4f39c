"""What the training stages share: loading, packing, points to resume from, the merged checkpoint.

A stage's folder holds `checkpoints/` while it trains, then `adapter/` and `model/`. The model
folder appears by one rename and carries `checkpoint.json`; when it is there, the stage is done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
)
from transformers.utils.logging import disable_progress_bar

from align.artifacts import canonical_json, sha256_text, write_json
from align.chat import CHAT_TEMPLATE, TEXT_END, TURN_END, TURN_START, template_sha, token_id
from align.checkpoint import weights_dtype, weights_sha
from align.errors import ArtifactError, CheckpointError, TrainingError
from align.lineage import MANIFEST, lineage, origin
from align.precision import compute_dtype
from align.processes import is_first, world_size
from align.settings import DpoSettings, SftSettings
from align.stage import Context, Output, Summary
from align.templates import template_of

_POINTS = "checkpoints"
_PARTIAL = ".partial"


def stage_seed(context: Context, out: Output) -> int:
    """Returns the seed of one stage instance, from the run's seed and the instance's id."""
    return int(sha256_text(canonical_json([context.seed, out.identity.instance]))[:8], 16) >> 1


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads a checkpoint's tokenizer as it is saved after training.

    A turn's end becomes its end token, so that a served model stops there, and padding is never
    that token. A base model without a chat template gets ours.

    Raises:
        CheckpointError: The folder has no readable tokenizer.
        TrainingError: The tokenizer's chat template can't be used, or there is none and it does not
            know ChatML's tokens.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: the tokenizer can't be loaded: {error}") from error
    if not tokenizer.chat_template:
        for name in (TURN_START, TURN_END, TEXT_END):
            token_id(tokenizer, name)
        tokenizer.chat_template = CHAT_TEMPLATE
    end = template_of(tokenizer).end
    tokenizer.eos_token = end
    others = (TEXT_END, tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token)
    known = tokenizer.get_vocab()
    padding = next((name for name in others if name in known and name != end), None)
    if padding is None:
        raise TrainingError(
            f"{folder}: the tokenizer has no token to pad with but {end}, which ends a turn; set "
            "its pad_token to another one"
        )
    tokenizer.pad_token = padding
    return cast(PreTrainedTokenizerBase, tokenizer)


def load_model(folder: Path, dtype: str, *, quantise: bool = False) -> PreTrainedModel:
    """Loads a causal language model from a folder.

    Args:
        folder: A checkpoint.
        dtype: Type of the weights.
        quantise: Hold linear layers in 4 bits, as QLoRA (arXiv:2305.14314) does.

    Raises:
        CheckpointError: The weights can't be loaded.
        TrainingError: This machine can't compute with quantised weights.
    """
    disable_progress_bar()  # the run shows its own
    options: dict[str, Any] = {"dtype": dtype}
    if quantise:
        if not torch.cuda.is_available() or find_spec("bitsandbytes") is None:
            raise TrainingError(
                "lora.quantise needs a CUDA GPU and the package bitsandbytes; leave it out, plain "
                "LoRA trains the same adapter from unquantised weights"
            )
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: the model can't be loaded: {error}") from error
    return cast(PreTrainedModel, model)


def training_dtype(settings: SftSettings | DpoSettings) -> str:
    """Returns the type in which weights are held while they train.

    Under an adapter the frozen weights are in the settings' type, the adapter is always float32;
    trained weights themselves are float32, because small updates vanish in bfloat16.
    """
    return compute_dtype(settings.dtype) if settings.lora else "float32"


def keep_adapter_exact(model: torch.nn.Module) -> None:
    """Makes what is trained float32 again, which TRL makes bfloat16 where the weights have 4 bits.

    Small updates vanish in bfloat16. Call it before the optimiser is made.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def join_processes() -> None:
    """Gives each process that was started together its device, and waits until all are there.

    Raises:
        TrainingError: One process sees several GPUs, of which it would use one.
    """
    if world_size() > 1:
        PartialState(cpu=not torch.accelerator.is_available()).wait_for_everyone()
    elif torch.cuda.device_count() > 1:
        raise TrainingError(
            f"{torch.cuda.device_count()} GPUs are visible, and a process trains on one: set "
            "CUDA_VISIBLE_DEVICES=0, or another one; `align dpo` also trains on several, in a "
            "process for each (`accelerate launch --module align.cli dpo ...`)"
        )


def trainer_arguments(
    settings: SftSettings | DpoSettings, out: Output, seed: int, checkpointing: bool
) -> dict[str, Any]:
    """Returns what both trainers' configurations have in common."""
    autocast = settings.lora is None and compute_dtype(settings.dtype) == "bfloat16"
    return {
        "output_dir": str(out.path / _POINTS),
        "num_train_epochs": settings.epochs,
        "gradient_accumulation_steps": settings.accumulate,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": settings.warmup if settings.warmup < 1 else 0.999,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would show 0 in their place
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "seed": seed,
        "data_seed": seed,
        "max_length": None,  # rows are measured, and dropped, before they come here
        "bf16": autocast,
        "use_cpu": not torch.accelerator.is_available(),
        "gradient_checkpointing": checkpointing,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "report_to": "none",  # see `metric_callbacks`
        "run_name": out.identity.instance,
        "disable_tqdm": True,
    }


class ResumableTrainer(Trainer):
    """Mixed into TRL's trainers: points to resume from that are whole or absent; no telemetry."""

    def _run_epoch(self, *args: Any, **options: Any) -> None:
        """Does nothing where the point that was resumed from is the training's end.

        The loop itself asks only behind a step whether it is over.
        """
        if self._is_over():
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **options)  # type: ignore[no-untyped-call]

    def _is_over(self) -> bool:
        return bool(self.state.global_step >= self.state.max_steps)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Saves under a temporary folder, then renames; older points go afterwards."""
        points = Path(str(self.args.output_dir))
        partial = points / _PARTIAL
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.args.output_dir = str(partial)
        try:
            Trainer._save_checkpoint(self, model, trial)
        finally:
            self.args.output_dir = str(points)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            fsync_tree(partial / name)
            shutil.rmtree(points / name, ignore_errors=True)
            (partial / name).rename(points / name)
            for older in points.glob("checkpoint-*"):
                if older.name != name:
                    shutil.rmtree(older)

    def _send_telemetry(self) -> None:
        """Sends nothing: what people train is not reported to anyone."""


def fsync_tree(folder: Path) -> None:
    """Has a folder's files on the disk before it gets the name that says it is done."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def last_point(out: Output) -> str | None:
    """Returns the newest point to resume from, or None where training starts at the beginning.

    Raises:
        ArtifactError: The points were made from other settings or inputs, or by more or fewer
            processes.
    """
    points = out.path / _POINTS
    owner = points / "identity.json"
    if points.exists() and owner.exists():
        present = json.loads(owner.read_text(encoding="utf-8"))
        processes = present.pop("processes", 1)
        if present != out.identity.as_dict():
            raise ArtifactError(
                f"{points} was made from other settings or inputs than the present ones; move "
                f"{out.path} away, or give another --out"
            )
        if processes != world_size():
            raise ArtifactError(
                f"{points} was made by {processes} processes, and {world_size()} are at work now: "
                f"a step would train on other pairs. Start {processes}, or delete {points} to "
                "begin anew"
            )
    else:
        write_json(owner, {**out.identity.as_dict(), "processes": world_size()})
    found = sorted(points.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return str(found[-1]) if found else None


def finished(out: Output) -> Summary | None:
    """Returns the summary of a stage whose model is there, or None.

    Raises:
        ArtifactError: The model was made from other settings or inputs.
    """
    path = out.path / "model" / MANIFEST
    if not path.exists():
        return None
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["identity"] != out.identity.as_dict():
        raise ArtifactError(
            f"{path.parent} was made from other settings or inputs than the present ones; move "
            f"{out.path} away, or give another --out"
        )
    _discard_points(out)
    return Summary(manifest["weights_sha"], manifest["counts"], manifest["details"])


def finish(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    parent: Path,
    settings: SftSettings | DpoSettings,
    out: Output,
    counts: Mapping[str, int],
    details: Mapping[str, Any],
) -> Summary:
    """Merges the adapter, saves the model folder by one rename, and drops the points to resume.

    The merge is in float32; the weights are saved in their parent's type, whatever was computed in.
    Of several processes that trained, the first one saves.
    """
    if not is_first():
        return Summary("", dict(counts), dict(details))
    adapter = out.path / "adapter" if settings.lora else None
    if adapter is not None:
        shutil.rmtree(adapter, ignore_errors=True)
        cast(PeftModel, trainer.model).save_pretrained(str(adapter))
        model = _merged(parent, adapter)
    else:
        model = trainer.model
    partial = out.path / ".model.partial"
    _save(model, tokenizer, parent, partial)
    sha = weights_sha(partial)
    manifest: dict[str, Any] = {
        "weights_sha": sha,
        "origin": origin(parent),
        "parent_weights_sha": weights_sha(parent),
        "adapter": "../adapter" if adapter else None,
        "template_sha": template_sha(cast(Any, tokenizer)),
        "settings": settings.model_dump(mode="json"),
        "dtype": compute_dtype(settings.dtype),
        "identity": out.identity.as_dict(),
        "counts": dict(counts),
    }
    # Parents' folders may be deleted later, so each checkpoint carries the whole line.
    manifest["lineage"] = [*lineage(parent), manifest.copy()]
    write_json(partial / MANIFEST, {**manifest, "details": dict(details)})
    fsync_tree(partial)
    shutil.rmtree(out.path / "model", ignore_errors=True)
    partial.rename(out.path / "model")
    _discard_points(out)
    return Summary(sha, dict(counts), dict(details))


def merge_adapter(parent: Path, adapter: Path, folder: Path) -> Path:
    """Writes the checkpoint that a LoRA adapter makes of its parent, and returns its folder.

    Raises:
        CheckpointError: The adapter can't be read, or does not fit the parent.
    """
    try:
        model = _merged(parent, adapter)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{adapter} is no adapter of {parent}: {error}") from error
    _save(model, load_tokenizer(parent), parent, folder)
    return folder


def _merged(parent: Path, adapter: Path) -> Any:
    wrapped = PeftModel.from_pretrained(load_model(parent, "float32"), adapter)
    return wrapped.merge_and_unload(safe_merge=True)


def _save(model: Any, tokenizer: Any, parent: Path, folder: Path) -> None:
    """Saves a model in its parent's type, with the parent's licence."""
    model = model.to(getattr(torch, weights_dtype(parent)))
    _check_finite(model)
    shutil.rmtree(folder, ignore_errors=True)
    save_checkpoint(model, tokenizer, folder)
    for licence in parent.glob("LICENSE*"):
        shutil.copyfile(licence, folder / licence.name)


def _check_finite(model: torch.nn.Module) -> None:
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise TrainingError(
                f"{name} holds values that are no numbers: training has diverged, and no model is "
                "written; lower learning_rate, and delete the stage's folder to start again"
            )


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    stops: Sequence[int] = (),
) -> None:
    """Saves weights, tokenizer, template, and generation settings that stop at both ends.

    Args:
        model: The model.
        tokenizer: As `load_tokenizer` returns it.
        folder: Where to save.
        stops: Ids that end an answer, instead of the ends of a turn and of a text. Those that the
            model's generation settings name already stay.
    """
    ends = [name for name in (tokenizer.eos_token, TEXT_END) if name in tokenizer.get_vocab()]
    own = list(stops) or cast(list[int], tokenizer.convert_tokens_to_ids(ends))
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    generation = model.generation_config
    if generation is not None:
        known = generation.eos_token_id
        theirs: list[int] = known if isinstance(known, list) else [] if known is None else [known]
        generation.eos_token_id = list(dict.fromkeys([*own, *theirs]))
        generation.pad_token_id = tokenizer.pad_token_id
        try:
            generation.validate(strict=True)
        except ValueError:  # a temperature without sampling, say, with which no folder is written
            generation.do_sample = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _discard_points(out: Output) -> None:
    shutil.rmtree(out.path / _POINTS, ignore_errors=True)
