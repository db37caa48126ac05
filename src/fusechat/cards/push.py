"""An exported folder -> the hub, with the user's own token, which is never shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml

from fusechat.errors import Fault, FusechatError, MissingExtraError, RecipeError
from fusechat.settings import HUB_NAME

Kind = Literal["dataset", "model"]
HOW = (
    "Set HF_TOKEN to a token that may write (huggingface.co/settings/tokens), or log in: hf auth "
    "login"
)


class PushError(FusechatError):
    """The hub refused an upload; mended by who owns the token or the name."""


def push_folder(folder: Path, repo: str, public: bool = False, api: Any = None) -> str:
    """Upload a folder that `export` wrote to the repository `owner/name`; returns its address.

    The card tells whether it is a data set or a model. The repository is made where there is none,
    private unless `public`; one that is there keeps its visibility. Raises `RecipeError` with all
    that is wrong before anything is sent. `api`: stands in for `HfApi`, in tests.
    """
    kind = _check(folder, repo)
    token = _token()
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi(token=token)
    try:
        made = api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True, token=token)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            repo_type=kind,
            commit_message="Upload with fusechat",
            ignore_patterns=[".*", "**/.*", "*.tmp"],
            token=token,
        )
    except (OSError, ValueError) as error:  # the hub's and httpx' errors are OSErrors
        raise PushError(_said(error, token, repo)) from None
    return str(made)


def _check(folder: Path, repo: str) -> Kind:
    faults = []
    if not HUB_NAME.fullmatch(repo):
        faults.append(Fault("", repo, "is no name on the hub: write owner/name."))
    kind = None
    if not folder.is_dir():
        faults.append(Fault(str(folder), "", "there is no such folder."))
    elif not (folder / "README.md").is_file():
        faults.append(Fault(str(folder), "", "has no card (README.md). `fusechat export` writes "
                            "one; push what it wrote."))  # fmt: skip
    elif (kind := kind_of(folder / "README.md")) is None:
        faults.append(Fault(str(folder / "README.md"), "", "is not the card of an export: its "
                            "front matter tells neither a data set nor a model."))  # fmt: skip
    if faults or kind is None:
        raise RecipeError(faults)
    return kind


def kind_of(card: Path) -> Kind | None:
    """What a card is of, by its front matter; None where that does not tell."""
    head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8"), re.DOTALL)
    try:
        front = yaml.safe_load(head.group(1)) if head else None
    except yaml.YAMLError:
        return None
    if not isinstance(front, dict):
        return None
    if "library_name" in front or "base_model" in front:
        return "model"
    return "dataset" if "configs" in front or "task_categories" in front else None


def _token() -> str:
    try:
        from huggingface_hub import get_token
    except ImportError as error:
        raise MissingExtraError("push", "huggingface_hub", "hub") from error
    token = get_token()
    if not token:
        raise RecipeError([Fault("", "HF_TOKEN", f"no token of the hub was found. {HOW}")])
    return str(token)


def _said(error: Exception, token: str, repo: str) -> str:
    told = str(error).replace(token, "***").strip() or type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    mend = f" {HOW}" if status in (401, 403) else " What was sent is kept; push again."
    return f"{repo} could not be pushed: {told}.{mend}"
