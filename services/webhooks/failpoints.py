"""Every place where a webhooks process may be made to die. A test walks ALL of them."""

from __future__ import annotations

from services.kit import failpoint

BEFORE_MESSAGE_COMMIT = "webhooks.before_message_commit"
AFTER_MESSAGE_COMMIT = "webhooks.after_message_commit"

AFTER_CLAIM = "webhooks.after_claim"
BEFORE_ATTEMPT = "webhooks.before_attempt"
AFTER_RESPONSE = "webhooks.after_response"
AFTER_OUTCOME_COMMIT = "webhooks.after_outcome_commit"

SOURCE_BEFORE_EFFECT = "webhooks.source.before_effect"
SOURCE_AFTER_EFFECT = "webhooks.source.after_effect"
SOURCE_AFTER_COMMIT = "webhooks.source.after_commit"

REPLAY_BEFORE_COMMIT = "webhooks.replay.before_commit"
REPLAY_AFTER_COMMIT = "webhooks.replay.after_commit"
RELAY_BEFORE_PUBLISH = "webhooks.relay.before_publish"
RELAY_AFTER_PUBLISH = "webhooks.relay.after_publish"
SWEEP_AFTER_COMMIT = "webhooks.sweep.after_commit"

API = (BEFORE_MESSAGE_COMMIT, AFTER_MESSAGE_COMMIT)
DISPATCHER = (AFTER_CLAIM, BEFORE_ATTEMPT, AFTER_RESPONSE, AFTER_OUTCOME_COMMIT)
SOURCE = (SOURCE_BEFORE_EFFECT, SOURCE_AFTER_EFFECT, SOURCE_AFTER_COMMIT)
KEEPER = (REPLAY_BEFORE_COMMIT, REPLAY_AFTER_COMMIT, RELAY_BEFORE_PUBLISH, RELAY_AFTER_PUBLISH, SWEEP_AFTER_COMMIT)
ALL = (*API, *DISPATCHER, *SOURCE, *KEEPER)


def register(*names: str) -> None:
    """Make these known in this process, before LAB_FAILPOINTS is read."""
    failpoint.register(*names)
