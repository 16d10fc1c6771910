"""Every place where the checkout process may be made to die. A test walks ALL of them."""

from __future__ import annotations

BEFORE_PAYMENT = "checkout.before_payment"
AFTER_PAYMENT = "checkout.after_payment"

ALL = (BEFORE_PAYMENT, AFTER_PAYMENT)
