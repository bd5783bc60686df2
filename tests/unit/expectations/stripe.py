"""What the fixtures of stripe become."""

from tests.unit.expectations.base import Expected, at

SUB = {"source": "stripe", "subscription_id": "sub_1RQ8vWLkdIwHu7ixq3b0m2Xy"}
PAYMENT = {"source": "stripe", "payment_intent_id": "pi_3RR1dBLkdIwHu7ix1kYw2mQe"}
CUSTOMER = {"customer_id": "cus_SJ4kq0Zf2wXb7d"}
PRO = {"price_id": "price_1QzT4bLkdIwHu7ixkVJ9eYtM"}
INVOICE = {
    "source": "stripe", **CUSTOMER, "subscription_id": SUB["subscription_id"], "currency": "eur", "amount_due": 5880,
    "attempt_count": 1, "created_at": at(1750412413),
}  # fmt: skip

EXPECTED: Expected = {
    "stripe/customer.subscription.created.json": [("subscriptions", {
        **SUB, **CUSTOMER, **PRO, "status": "incomplete", "current_period_end": at(1750412400),
        "cancel_at_period_end": False, "event_created": at(1747734002), "event_id": "evt_1RQ8vZLkdIwHu7ixm1Gd0kWc"})],
    "stripe/customer.subscription.updated.legacy_2024-06-20.json": [("subscriptions", {
        **SUB, **CUSTOMER, **PRO, "status": "active", "current_period_end": at(1750412400),
        "cancel_at_period_end": False, "event_created": at(1747734002)})],
    "stripe/customer.subscription.updated.json": [("subscriptions", {
        **SUB, **CUSTOMER, **PRO, "status": "active", "current_period_end": at(1750412400),
        "cancel_at_period_end": False, "event_created": at(1747734002), "event_id": "evt_1RQ8vaLkdIwHu7ixT4y1PqUz"})],
    "stripe/customer.subscription.updated.cancel_at_period_end.json": [("subscriptions", {
        **SUB, **CUSTOMER, **PRO, "status": "active", "current_period_end": at(1753004400),
        "cancel_at_period_end": True, "event_created": at(1750499001), "event_id": "evt_1RZqH2LkdIwHu7ixAq2Rj7Tn"})],
    "stripe/customer.subscription.deleted.json": [("subscriptions", {
        **SUB, **CUSTOMER, **PRO, "status": "canceled", "current_period_end": at(1753004400),
        "cancel_at_period_end": True, "event_created": at(1753004403)})],
    "stripe/invoice.payment_failed.json": [("invoices", {
        **INVOICE, "invoice_id": "in_1RbNz3LkdIwHu7ixF4iLed01", "status": "open", "amount_paid": 0,
        "last_failed_at": at(1750416024)})],
    "stripe/invoice.paid.json": [("invoices", {
        **INVOICE, "invoice_id": "in_1RbNz3LkdIwHu7ixW6bB2cYk", "status": "paid", "amount_paid": 5880,
        "paid_at": at(1750416022)})],
    "stripe/invoice.payment_succeeded.json": [("invoices", {
        **INVOICE, "invoice_id": "in_1RbNz3LkdIwHu7ixW6bB2cYk", "status": "paid", "amount_paid": 5880,
        "paid_at": at(1750416022)})],
    "stripe/invoice.payment_succeeded.legacy_2024-06-20.json": [("invoices", {
        **INVOICE, "invoice_id": "in_1RbNz3LkdIwHu7ixW6bB2cYk", "status": "paid", "amount_paid": 5880,
        "paid_at": at(1750416022)})],
    "stripe/payment_intent.succeeded.json": [
        ("payments", {**PAYMENT, **CUSTOMER, "purpose": "credit_purchase", "status": "succeeded", "amount": 2500,
                      "amount_received": 2500, "currency": "eur", "occurred_at": at(1747936339),
                      "succeeded_at": at(1747936339)}),
        ("credit_entries", {"source": "stripe", "entry_id": PAYMENT["payment_intent_id"], "kind": "purchase", **CUSTOMER,
                            "credits": 500, "amount": 2500, "occurred_at": at(1747936339)})],
    "stripe/checkout.session.completed.json": [
        ("payments", {**PAYMENT, **CUSTOMER, "client_reference_id": "ten_01JV7Q0S3M", "purpose": None,
                      "checkout_purpose": "credit_purchase",
                      "status": "succeeded", "amount": 2500, "currency": "eur", "occurred_at": at(1747936340)}),
        ("credit_entries", {"source": "stripe", "entry_id": PAYMENT["payment_intent_id"], "checkout_credits": 500,
                            "kind": None, "customer_id": None})],
    "stripe/checkout.session.completed.unpaid_async.json": [
        ("payments", {**CUSTOMER, "status": "processing"}), ("credit_entries", {"checkout_credits": 500})],
    "stripe/charge.refunded.partial.json": [
        ("payments", {**PAYMENT, **CUSTOMER, "amount_refunded": 1000, "charge_refunded": 1000,
                      "currency": "eur"})],
    "stripe/charge.refunded.full.json": [
        ("payments", {**PAYMENT, **CUSTOMER, "amount_refunded": 2500, "charge_refunded": 2500,
                      "currency": "eur"})],
    "stripe/refund.created.json": [
        ("refunds", {**PAYMENT, "refund_id": "re_3RR1dBLkdIwHu7ix1sGx4lq8", "charge_id": "ch_3RR1dBLkdIwHu7ix1nVf0WzL",
                     "status": "succeeded", "amount": 1000, "currency": "eur", "occurred_at": at(1748099999)})],
    "stripe/v2.core.event.thin.json": [],
}  # fmt: skip
