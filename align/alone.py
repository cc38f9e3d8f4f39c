"""What every verb shares: its options become settings, its files inputs, its stage is run alone."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from align.artifacts import (
    Identity,
    canonical_json,
    read_shards,
    sha256_text,
    shard_paths,
    write_atomic,
    write_json,
    write_parquet,
)
from align.benchmark_files import KNOWN_BENCHMARKS, benchmark_sha, text_source
from align.context import RunContext, console
from align.errors import InputError, RecipeError
from align.locks import locked
from align.manifest import (
    CALIBRATION,
    FACTS,
    begin,
    beside,
    finish,
    path_sha,
    read_identity,
    read_manifest,
)
from align.pipeline import SANDBOX_KEYS, SERVING_KEYS
from align.processes import PARALLEL, is_first, refuse_several
from align.recipe import apply_override, parse_settings
from align.run import PASSING_KEYS, stage_function
from align.settings import (
    DataSettings,
    EvalSettings,
    FimSettings,
    JudgeSettings,
    SandboxSettings,
    ServingSettings,
    Settings,
)
from align.stage import Output
from align.tables import looks_like_hub_id, resolve_table


def table_path(location: str) -> Path:
    """Returns a table's local path, or a Hub id as a path.

    Raises:
        InputError: Nothing is there, or a stage's whole folder.
    """
    path = resolve_table(location)
    if path is None:
        if looks_like_hub_id(location):
            return Path(location)
        raise InputError(f"{location}: no such file or folder")
    if path.is_dir() and read_identity(path) is not None and not shard_paths(path):
        tables = [str(shards.parent) for shards in sorted(path.glob("*/shard-00000.parquet"))]
        raise InputError(
            f"{location} is a stage's folder; name a table in it: {', '.join(tables) or 'none yet'}"
        )
    return path


def model_path(name: str) -> Path:
    """Returns the folder of a model by path or Hub id."""
    from align.checkpoint import resolve_model

    return resolve_model(name)


def settings_of(
    model: type[Settings], given: Mapping[str, Any], overrides: list[str] | None
) -> Any:
    """Builds a stage's settings from options and `--set`; options that are None are left out."""
    content = {key: value for key, value in given.items() if value is not None}
    for override in overrides or []:
        apply_override(content, override)
    return parse_settings(model, content, "--set")


def serving_of(
    endpoint: str | None, overrides: list[str] | None
) -> tuple[ServingSettings, list[str]]:
    """Splits `serving.key=value` off the overrides of a verb that serves a model.

    Returns:
        How to serve, and the overrides that are the stage's own.
    """
    prefix = "serving."
    own = [each for each in overrides or [] if not each.startswith(prefix)]
    rest = [each.removeprefix(prefix) for each in overrides or [] if each.startswith(prefix)]
    return settings_of(ServingSettings, {"endpoint": endpoint}, rest), own


def _outside(settings: Settings) -> dict[str, str]:
    """Returns the hashes of what a stage reads beside its inputs: sources, known benchmarks."""
    hashes = {}
    names: Iterable[str] = ()
    if isinstance(settings, FimSettings):
        from align.fim import corpus_sha  # most verbs read no source files

        hashes["corpus"] = corpus_sha(settings)
    if isinstance(settings, FimSettings | DataSettings):
        names = map(text_source, settings.decontaminate)
    elif isinstance(settings, EvalSettings):
        names = settings.benchmarks
    known = (name for name in names if name in KNOWN_BENCHMARKS)
    return hashes | {f"problems.{name}": benchmark_sha(name) for name in known}


def do_stage(
    stage: str,
    settings: Settings,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    table: str | None = None,
    facts: bool = False,
    seed: int = 0,
    sandbox: SandboxSettings | None = None,
    serving: ServingSettings | None = None,
) -> None:
    """Runs one stage on files; a killed verb goes on where it stopped.

    `table` names the table that `--out X.parquet` holds; None where a stage writes no single one.
    What else it writes stands beside that file, as `X.NAME.parquet`, and with `facts` what it says
    of the table, as `X.facts.json`.

    Raises:
        RecipeError: `--out` is one file, and the stage writes a folder.
    """
    if stage not in PARALLEL:
        refuse_several(f"the {stage} stage")
    one_file = out.suffix in (".parquet", ".jsonl")
    if one_file and table is None:
        raise RecipeError(f"--out {out}: this stage writes a folder; give a name without ending")
    folder = out.with_name(f".{out.name}.work") if one_file else out
    plain = settings.model_dump(mode="json")
    config: dict[str, Any] = {
        "stage": stage,
        "settings": settings.model_dump(mode="json", exclude=set(PASSING_KEYS)),
        "seed": seed,
    }
    if isinstance(settings, JudgeSettings):
        from align.judge_inputs import rubric_sha  # most verbs know nothing of judges

        config["rubric"] = rubric_sha(settings.rubric)
    if serving is not None:
        config["serving"] = serving.model_dump(mode="json", include=set(SERVING_KEYS))
    if sandbox is not None:
        config["sandbox"] = sandbox.model_dump(mode="json", include=set(SANDBOX_KEYS))
    hashes = {name: path_sha(path) for name, path in inputs.items()} | _outside(settings)
    identity = Identity(stage, sha256_text(canonical_json(config)), hashes)
    present = read_identity(folder) if folder.exists() else None
    if present is not None and present != identity:
        raise RecipeError(
            f"--out {out} holds results of other settings or inputs; give another, or delete "
            f"{folder}"
        )
    if one_file and present is None and out.exists():
        raise RecipeError(f"--out {out} is there already; give another name, or delete it")
    done = present == identity and read_manifest(folder) is not None
    if done and not one_file:
        console.print(f"{out} is done already")
        return
    if not is_first():
        _train_along(stage, settings, inputs, Output(folder, identity), seed)
        return
    with locked(folder, "give another --out"):
        if not done:
            with RunContext(
                folder,
                seed=seed,
                sandbox=sandbox or parse_settings(SandboxSettings, {}, "environment"),
                serving=serving or ServingSettings(),
            ) as context:
                context.stage = stage
                started = time.monotonic()
                begin(folder, identity)
                summary = stage_function(stage)(settings, inputs, Output(folder, identity), context)
                seconds = time.monotonic() - started
                finish(folder, identity, summary, settings=plain, seed=seed, seconds=seconds)
        manifest = read_manifest(folder) or {}
        if one_file and table is not None:
            _all_files(folder, table, out)
            if facts:
                write_json(beside(out, FACTS), manifest["details"])
            # Away at once: a half of it must not be taken for the whole by the next command.
            trash = folder.with_name(f"{folder.name}.done")
            shutil.rmtree(trash, ignore_errors=True)
            folder.rename(trash)
            shutil.rmtree(trash)
    _print_counts(out, manifest["counts"], manifest["seconds"])


def _train_along(
    stage: str, settings: Settings, inputs: Mapping[str, Path], out: Output, seed: int
) -> None:
    """Does one process's part of a training that another process writes and tells of."""
    sandbox = parse_settings(SandboxSettings, {}, "environment")
    console.quiet = True
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            RunContext(
                Path(scratch), seed=seed, sandbox=sandbox, serving=ServingSettings()
            ) as context,
        ):
            stage_function(stage)(settings, inputs, out, context)
    finally:
        console.quiet = False


def _all_files(folder: Path, table: str, out: Path) -> None:
    """Writes a stage's table to one file, and what else it wrote beside that."""
    if (folder / CALIBRATION).exists():
        write_atomic(beside(out, CALIBRATION), (folder / CALIBRATION).read_bytes())
    for other in sorted(folder.glob("*/shard-00000.parquet")):
        name = other.parent.name
        if name != table and next(iter(read_shards(other.parent)), None) is not None:
            another = out.with_name(f"{out.stem}.{name}{out.suffix}")
            _one_file(other.parent, another)
            console.print(f"{name}: {another}")
    _one_file(folder / table, out)


def _one_file(table: Path, out: Path) -> None:
    import pyarrow.parquet as pq

    from align.artifacts import shard_paths

    rows = list(read_shards(table))
    if out.suffix == ".parquet":
        schema = pq.read_schema(shard_paths(table)[0]).remove_metadata()
        write_parquet(out, rows, schema)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomic(out, text.encode())


def _print_counts(out: Path, counts: Mapping[str, int], seconds: float) -> None:
    from rich.table import Table

    view = Table("", "count", title=f"{out}  ({seconds:.1f} s)", title_justify="left")
    for name, value in counts.items():
        view.add_row(name, str(value))
    console.print(view)
