"""Every place where a cron process may be made to die. A test walks ALL of them. A pass names the jobs it is about."""

from __future__ import annotations

from services.kit import failpoint

AFTER_DUE_LIST = "cron.after_due_list"
"""The due jobs are read, nothing is written."""
AFTER_PLAN = "cron.after_plan"
"""Their runs are written, none is claimed."""
AFTER_CLAIM = "cron.after_claim"
"""The intention (`firing`, epoch) is committed, the target has not been called."""
BEFORE_EFFECT = "cron.before_effect"
"""The lease has been looked at, the target has not been called: only fencing helps from here on."""
AFTER_EFFECT = "cron.after_effect"
"""The target has answered, the row says `firing`."""
AFTER_FINISH = "cron.after_finish"
"""The row says what happened."""

API_AFTER_COMMIT = "cron.api.after_commit"

SCHEDULER = (AFTER_DUE_LIST, AFTER_PLAN, AFTER_CLAIM, BEFORE_EFFECT, AFTER_EFFECT, AFTER_FINISH)
API = (API_AFTER_COMMIT,)
ALL = (*SCHEDULER, *API)


def register(*names: str) -> None:
    """Make these known in this process, before LAB_FAILPOINTS is read."""
    failpoint.register(*names)
