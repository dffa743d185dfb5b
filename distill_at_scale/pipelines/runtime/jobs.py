"""The jobs API of a cluster's dashboard: submit, follow, stop; errors in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from distill_at_scale.errors import ClusterError
from distill_at_scale.uris import redact_text

_ANSWERS_WITHIN_S = 5.0
# A tunnel to the dashboard may break and be opened again.
_AWAY_S, _RETRY_S = 60.0, 2.0
_TOKEN = (
    "set RAY_AUTH_MODE=token, and the cluster's token as RAY_AUTH_TOKEN, in the file RAY_AUTH_TOKEN_PATH or in "
    "~/.ray/auth_token."
)
_TALKATIVE = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class Dashboard:
    """The dashboard at an address ``http://HOST:PORT``.

    Raises:
        ClusterError: Nobody answers there within 5 seconds, it is something else, or it refuses the token.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._require_ray()
        from ray.job_submission import JobSubmissionClient

        # Their notes on uploads and connections are of no use to a reader; they set their levels when imported.
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._said():
            self._client = JobSubmissionClient(address)
            # The version is told to everybody; this is not.
            self._nodes = self._client._do_request("GET", "/nodes?view=summary", timeout=_ANSWERS_WITHIN_S)

    def hosts(self) -> set[str]:
        """Returns the host names of the nodes, as far as they are known."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return {node["hostname"] for node in self._nodes.json()["data"]["summary"] if node.get("hostname")}
        return set()

    def submit(self, job: str, entrypoint: str, runtime_env: dict[str, Any], name: str) -> None:
        """Uploads what the job needs, and submits it."""
        with self._said():
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=job, runtime_env=runtime_env, metadata={"job_name": name}
            )

    def follow(self, job: str, write: Callable[[str], Any]) -> None:
        """Passes the job's log on, piece by piece, until the job ends. A lost connection is taken up again."""
        written, gone = 0, None
        while True:
            try:
                for text in self._pieces(job, skip=written):
                    write(text)
                    written, gone = written + len(text), None
                if self.has_ended(job):
                    return
            except ClusterError:
                gone = gone or time.monotonic()
                if time.monotonic() - gone > _AWAY_S:
                    raise
            time.sleep(_RETRY_S if gone else 0.2)

    def stop(self, job: str) -> None:
        """Asks for the end of a job."""
        with self._said():
            self._client.stop_job(job)

    def has_ended(self, job: str) -> bool:
        """Whether the job runs no more."""
        return self.ended(job)[0] in _ENDED

    def ended(self, job: str) -> tuple[str, int | None, str]:
        """Returns the job's status, exit code (None where there is none) and Ray's message."""
        with self._said():
            info = self._client.get_job_info(job)
        code = info.driver_exit_code
        # By a signal, as a shell has it.
        code = 128 - code if code is not None and code < 0 else code
        return str(info.status), code, redact_text(" ".join((info.message or "").split()))

    def _pieces(self, job: str, skip: int) -> Iterator[str]:
        """Yields the log as it grows, but for the first characters. Ends with the job, or with the connection."""
        arrived: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()

        async def read() -> None:
            async for text in self._client.tail_job_logs(job):
                arrived.put(text)

        def run() -> None:
            # A thread of its own, so that an interruption of this one and an event loop of its caller do not matter.
            try:
                asyncio.run(read())
                arrived.put(None)
            except BaseException as error:
                arrived.put(error)

        threading.Thread(target=run, daemon=True).start()
        while (text := arrived.get()) is not None:
            if isinstance(text, BaseException):
                with self._said():
                    raise text
                return
            if len(text) > skip:
                yield text[skip:]
            skip = max(skip - len(text), 0)

    def _require_ray(self) -> None:
        """Asks for the version, which Ray tells without a token, and waits no longer than a moment."""
        try:
            with urllib.request.urlopen(f"{self.address}/api/version", timeout=_ANSWERS_WITHIN_S) as answer:
                if "ray_version" in json.loads(answer.read()):
                    return
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                return
        except (ValueError, KeyError, TypeError):
            pass
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise ClusterError(
                f"No Ray dashboard answers at {self.address} ({reason}); open a way to it by `ray dashboard "
                "cluster.yaml` or `kubectl port-forward service/NAME-head-svc 8265`, or set --address."
            ) from error
        raise ClusterError(
            f"What answers at {self.address} is not Ray's dashboard; set --address to that, as http://HOST:8265."
        )

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Turns what Ray's client raises into one sentence."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            missing = "required" in str(error).partition(":")[0]
            what = "asks for a token, and there is none here" if missing else "refuses the token that is used here"
            raise ClusterError(f"The cluster at {self.address} {what}; {_TOKEN}") from error
        except (RuntimeError, OSError, ValueError) as error:
            text = redact_text(" ".join(str(error).split()))[:300].rstrip(".")
            raise ClusterError(f"The cluster at {self.address}: {text or type(error).__name__}.") from error
