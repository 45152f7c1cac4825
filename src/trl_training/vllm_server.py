"""Checks the vLLM server of `vllm_mode: server` before the model loads.

trl asks it the same questions after that, when every GPU is held, and answers with a traceback; it does not compare the
model, nor the context.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING, Any

from pydantic import AliasPath, BaseModel, Field, ValidationError

from common.endpoint import url_problem
from common.errors import InputError
from common.http_client import check_variables, shown

if TYPE_CHECKING:
    import httpx

START = "start it with scripts/vllm_server.sh"
PAUSE = 2.0  # seconds between two tries, as in trl


class Served(BaseModel):
    """An entry of /v1/models. `root`: the model's path, if the server gives it another name."""

    id: str
    root: str | None = None
    max_model_len: int | None = None


class Models(BaseModel):
    """The answer of /v1/models."""

    data: list[Served] = Field(min_length=1)


class ServerInfo(BaseModel):
    """The answer of /server_info, which exists in development mode only: what trl reads of it."""

    transfer: dict[str, Any] | None = Field(None, validation_alias=AliasPath("vllm_config", "weight_transfer_config"))


def address(args: Any) -> str:
    """The server's base address, as trl forms it. Raises InputError if no server can have it."""
    url = (args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}").rstrip("/")
    problem = "expected http://HOST:PORT, without /v1" if url.endswith("/v1") else url_problem(url)
    if problem:
        raise InputError(f"vllm_server_base_url {shown(url)}: {problem}")
    return url


def check_server(args: Any, model: str, longest: int) -> None:
    """Wait for the server, at most vllm_server_timeout seconds. Raises InputError unless it can sample for this run.

    `longest`: tokens of a prompt and its completion.
    """
    import httpx

    url = address(args)
    server = f"vLLM server {shown(url)}"
    check_variables()
    with httpx.Client(timeout=30.0) as client:
        wait_for(client, url, args.vllm_server_timeout)
        try:
            served = Models.model_validate_json(client.get(f"{url}/v1/models").content).data[0]
            info = client.get(f"{url}/server_info", params={"config_format": "json"})
            if info.status_code == 404:
                raise InputError(f"{server}: not in development mode, so it takes no weights: {START}")
            transfer = ServerInfo.model_validate_json(info.content).transfer
        except ValidationError:
            raise InputError(f"{server}: does not answer as `vllm serve` does: {START}") from None
        except httpx.RequestError as error:
            raise InputError(f"{server}: {error or type(error).__name__}: {START}") from None
    if transfer is None:
        raise InputError(f"{server}: started without --weight-transfer-config: {START}")
    if model not in (served.id, served.root):
        raise InputError(
            f"{server}: serves {served.id}, but model_name_or_path is {model}: start it with that model, or "
            f"with --served-model-name {model} if it is the same one at another path"
        )
    if served.max_model_len is not None and served.max_model_len < longest:
        needed = f"max_prompt_length + max_completion_length need {longest}"
        raise InputError(f"{server}: --max-model-len {served.max_model_len}: {needed}")


def wait_for(client: httpx.Client, url: str, seconds: float) -> None:
    """Until /health answers. Raises InputError if it does not within `seconds`."""
    import httpx

    end = time.monotonic() + seconds
    for tried in itertools.count():
        try:
            status = client.get(f"{url}/health").status_code
            if status == 200:
                return
            found = f"/health answers with status {status}"
        except httpx.RequestError as error:
            found = str(error) or type(error).__name__
        left = end - time.monotonic()
        if left <= 0:
            raise InputError(f"vLLM server {shown(url)}: {found} after {seconds:g} s (vllm_server_timeout): {START}")
        if not tried:
            print(f"waiting for the vLLM server {shown(url)}, at most {seconds:g} s", file=sys.stderr, flush=True)
        time.sleep(min(PAUSE, left))
