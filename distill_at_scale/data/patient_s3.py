"""S3 through s3fs, with patience: what a process has begun is not ended by a server that is away for some minutes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

from distill_at_scale.data.storage_errors import is_outage, shown
from distill_at_scale.data.storage_patience import Server

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_servers: dict[str, Server] = {}


class PatientS3(S3FileSystem):  # type: ignore[misc]
    """The file system of ``s3://``. Every request passes through ``_call_s3``."""

    async def _call_s3(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        server, pause = self._server(), _FIRST_PAUSE_S
        while True:
            try:
                answer = await super()._call_s3(method, *arguments, **keywords)
            except Exception as error:
                if not is_outage(error):
                    server.answered()
                    raise
                if not server.is_worth_waiting(error):
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                server.answered()
                return answer

    call_s3 = sync_wrapper(_call_s3)

    def _server(self) -> Server:
        found = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        name = self.endpoint_url or next(filter(None, found), "S3")
        return _servers.setdefault(name, Server(shown(Exception(name))))
