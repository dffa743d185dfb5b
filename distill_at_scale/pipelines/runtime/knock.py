"""Asks an address for a Ray cluster before Ray does: the answer comes in seconds, and says what is wrong.

Ray itself tries for minutes, and takes a refused token for a broken connection. One call to the cluster's own service,
with this process's token, tells a closed port, another server and a refused token apart.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Any

_PATIENCE_S = 5.0
_CLIENT = "ray://"
_TOKEN = "put the cluster's token into ~/.ray/auth_token, or into a file that RAY_AUTH_TOKEN_PATH names"


@dataclass(frozen=True)
class Refusal:
    """Why no cluster can be joined, and what to do; parts of a sentence."""

    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.why}; {self.fix}."


def refusal(address: str) -> Refusal | None:
    """Why no Ray cluster can be joined at an address; None: one can, or Ray has to say itself.

    Args:
        address: ``host:port`` or ``ray://host:port``; of ``auto``, the address that Ray finds on this machine.
    """
    # Before gRPC: Ray sets up where its packages are found.
    import ray

    if address == "auto":
        address = ray._private.services.get_ray_address_from_environment("auto", None) or ""
    place = address.removeprefix(_CLIENT).rstrip("/")
    found = re.fullmatch(r"\[?([^/\]]+)\]?:(\d+)", place)
    if found is None:
        return None
    try:
        with socket.create_connection((found[1], int(found[2])), timeout=_PATIENCE_S):
            pass
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return Refusal(f"nobody answers there ({why})", "check the address, that the cluster is up, and the way to it")
    return _refused_by_service(place, address.startswith(_CLIENT))


def _refused_by_service(place: str, client: bool) -> Refusal | None:
    import grpc
    import ray
    from ray._private.authentication import authentication_utils
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc, ray_client_pb2, ray_client_pb2_grpc

    messages: Any = ray_client_pb2 if client else gcs_service_pb2
    channel = init_grpc_channel(place)
    try:
        if client:
            ping = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
            ray_client_pb2_grpc.RayletDriverStub(channel).ClusterInfo(ping, timeout=_PATIENCE_S)
        else:
            alive = messages.CheckAliveRequest()
            gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel).CheckAlive(alive, timeout=_PATIENCE_S)
    except ray.exceptions.AuthenticationError:
        return Refusal("RAY_AUTH_MODE=token is set, and this process has no token", _TOKEN)
    except grpc.RpcError as error:
        code = error.code()
        if code == grpc.StatusCode.UNAUTHENTICATED and authentication_utils.is_token_auth_enabled():
            return Refusal("it refuses the token of this process", _TOKEN)
        if code == grpc.StatusCode.UNAUTHENTICATED:
            return Refusal("it wants a token, and this process has none", f"set RAY_AUTH_MODE=token, and {_TOKEN}")
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
            fix = "take its client port, by default 10001" if client else "take the head's port, by default 6379"
            return Refusal("it is another server, not a Ray cluster", fix)
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return Refusal(f"it does not answer within {_PATIENCE_S:.0f} seconds", "check that the cluster is well")
    finally:
        channel.close()
    return None
