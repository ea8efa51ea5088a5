"""The client of a service: `Client` for code that waits, `AsyncClient` for an event loop. Imports no torch."""

from __future__ import annotations

from onetrunk.core.client.asynchronous import AsyncClient
from onetrunk.core.client.blocking import Client
from onetrunk.core.client.errors import AnswerError, ClientError, ServiceError, ServiceUnreachable
from onetrunk.core.client.retrying import Retries
from onetrunk.core.prediction import Prediction

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
