"""The source `vllm`: starts `vllm serve`, samples from it, and ends it.

All that concerns a request is the `endpoint`'s; this adds the server's life. A unit has its server
for as long as it samples, so that several large sources take turns on the same GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

from pydantic import Field

from fusechat.local_models import model_faults, model_name
from fusechat.parts import SPEED, Where, Work
from fusechat.settings import HubSetName
from fusechat.sources._vllm_command import EngineSettings
from fusechat.sources._vllm_server import find_program
from fusechat.sources._vllm_watch import Surviving, serving
from fusechat.sources.endpoint import Endpoint

_ELSEWHERE = ("base_urls", "api_key_env", "served_as")
"""Settings of a server that is not ours."""


class Vllm(EngineSettings, Endpoint):
    """A model that `vllm serve` is started for, from vLLM's own environment.

    Settings of sampling are those of `endpoint`; those of the engine stand beside them. vLLM is not
    among our packages: it pins another torch, and needs a virtual environment of its own, whose
    program `command` names (in the recipe or in the cluster file). See docs/cluster.md.
    """

    on_device: ClassVar[bool] = True

    model: HubSetName = Field(min_length=1)
    """A model folder relative to the recipe (keyed by its content), or a hub name, which vLLM
    fetches by itself."""
    give_up_after: Annotated[float, SPEED] = Field(default=120.0, ge=0)
    """Seconds without an answering server, after which a row waits until it is started again."""

    def prefills(self) -> bool:
        """Yes: its own server is vLLM."""
        return True

    def served_model(self) -> str:
        """The hub name, or the folder's name."""
        return model_name(self.model)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: a broken model folder, options in the wrong place, a program that is not there."""
        yield from super().faults()
        for message in model_faults(self.model, "chat"):
            yield "model", message
        yield from self.engine_faults()
        if self.command and (fault := find_program(self.command)):
            yield "command", fault
        for name in _ELSEWHERE:
            if getattr(self, name):
                yield (
                    name,
                    f"'vllm' starts a server of its own. Leave '{name}' out, or use endpoint.",
                )

    def place_faults(self, where: Where) -> Iterator[str]:
        """None: its server is its own, and its program may be on other nodes only."""
        yield from ()

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Start the server and wait until it is healthy; it is ended on leaving.

        Raises `PartError` with the end of its log where it does not come up.
        """
        with serving(self, where, self.model, self.served_model()) as watch:
            asked = Endpoint(**self._sampling(watch.server.port))
            plain: dict[str, Any] = {
                "base_urls": (),
                "api_key_env": None,
                "engine": {},
                "command": (),
            }
            with asked.open(where.model_copy(update=plain)) as work:
                yield Surviving(work, watch)

    def _sampling(self, port: int) -> Mapping[str, Any]:
        """The settings of the `endpoint` that asks the server."""
        same = {name: getattr(self, name) for name in Endpoint.model_fields}
        urls = (f"http://127.0.0.1:{port}/v1",)
        own = {"model": self.served_model(), "base_urls": urls, "prefill": True}
        return same | own
