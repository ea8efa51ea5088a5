"""Clients of a OneTrunk service: `Client` is synchronous, `AsyncClient` is for asyncio. Neither imports torch."""

from __future__ import annotations

from onetrunk.core.client.clients import AsyncClient, Client
from onetrunk.core.client.errors import AnswerError, ClientError, ServiceError, ServiceUnreachable
from onetrunk.core.client.retry import Retries
from onetrunk.core.tasks.prediction import Prediction

__all__ = [
    "AnswerError",
    "AsyncClient",
    "Client",
    "ClientError",
    "Prediction",
    "Retries",
    "ServiceError",
    "ServiceUnreachable",
]
