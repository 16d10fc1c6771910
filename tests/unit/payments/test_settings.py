from typing import Any

import pytest

from services.payments.settings import PaymentsSettings

GOOD = {
    "database_url": "postgresql://payments_app:x@localhost/payments",
    "bank_url": "http://localhost:1",
    "bank_api_key": "k",
    "bank_webhook_secret": "s",
    "kafka_bootstrap": "localhost:1",
}


def test_the_defaults_fit_together() -> None:
    settings = PaymentsSettings.model_validate(GOOD)
    assert settings.budget_seconds <= settings.budget_maximum_seconds
    assert settings.commit_seconds < settings.bank_timeout_seconds < settings.lease_seconds < settings.budget_seconds


@pytest.mark.parametrize(
    "wrong", [{"budget_seconds": 90}, {"budget_seconds": 20, "budget_maximum_seconds": 10}, {"budget_seconds": 0}]
)
def test_a_budget_without_sense_stops_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="budget_seconds"):
        PaymentsSettings.model_validate(GOOD | wrong)
