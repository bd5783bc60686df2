-- The read models over the facts in :gen, as views in :views. What depends on several facts is computed here, when read,
-- so that no read model can drift from its facts. CREATE OR REPLACE keeps the grants when a flip points the views at
-- another generation. No row may make one of them raise, for it would raise for everybody: a sum that no bigint holds is
-- the greatest or the least, and a duration of more than 31 years is unknown.

-- An edit may come before its message: the text is the latest edit's wherever there is one, empty where it took the text
-- away. So is a reaction that was taken back.
CREATE OR REPLACE VIEW :views.messages AS
SELECT source, message_id, provider, channel, direction, sender, coalesce(status_recipient, recipient) AS recipient,
       our_number, peer_number, kind,
       CASE WHEN edited_body IS NULL THEN body ELSE nullif(edited_body, '') END AS body,
       CASE WHEN status = 'bounced' THEN 'failed' ELSE status END AS status,
       error_code, error_message, is_opt_out, sent_at, delivered_at, read_at, failed_at, occurred_at,
       edited_at, revoked_at, nullif(reaction, '') AS reaction
FROM :gen.messages;

CREATE OR REPLACE VIEW :views.conversations AS
SELECT source, channel, our_number, peer_number,
       count(*) FILTER (WHERE direction = 'inbound') AS inbound,
       count(*) FILTER (WHERE direction = 'outbound') AS outbound,
       max(occurred_at) FILTER (WHERE direction = 'inbound') AS last_inbound_at,
       max(occurred_at) FILTER (WHERE direction = 'outbound') AS last_outbound_at
FROM :gen.messages
WHERE our_number IS NOT NULL AND peer_number IS NOT NULL
GROUP BY source, channel, our_number, peer_number;

-- A checkout may name a subscription before any of its own events has come: no state, no row yet. What an operator said of
-- one is shown from its moment on, until a later event of the provider's; whose times are whole seconds, and lose a tie.
-- The second half are those that only an operator has spoken of: apart, so that an index on the customer serves the first.
-- Of several prices the first that has a tier counts: the others are add-ons.
CREATE OR REPLACE VIEW :views.subscriptions AS
SELECT said.source, said.subscription_id, said.customer_id, said.client_reference_id,
       CASE WHEN corrected.corrected_at >= coalesce(said.event_created, '-infinity')
            THEN corrected.status ELSE said.status END AS status,
       coalesce((SELECT item.price_id
                 FROM unnest(string_to_array(said.price_ids, E'\n')) WITH ORDINALITY AS item (price_id, place)
                 JOIN redrive.price_tiers AS tier ON tier.price_id = item.price_id
                 ORDER BY item.place LIMIT 1), said.price_id) AS price_id,
       CASE WHEN corrected.period_corrected_at >= coalesce(said.event_created, '-infinity')
            THEN corrected.current_period_end ELSE said.current_period_end END AS current_period_end,
       said.cancel_at_period_end,
       CASE WHEN corrected.corrected_at >= coalesce(said.event_created, '-infinity')
            THEN corrected.corrected_at ELSE said.event_created END AS event_created,
       CASE WHEN corrected.corrected_at >= coalesce(said.event_created, '-infinity')
            THEN corrected.event_id ELSE said.event_id END AS event_id
FROM :gen.subscriptions AS said
LEFT JOIN :gen.subscription_corrections AS corrected
       ON corrected.source = said.source AND corrected.subscription_id = said.subscription_id
WHERE said.event_id IS NOT NULL
UNION ALL
SELECT said.source, said.subscription_id, corrected.customer_id, said.client_reference_id, corrected.status, said.price_id,
       corrected.current_period_end, said.cancel_at_period_end, corrected.corrected_at, corrected.event_id
FROM :gen.subscription_corrections AS corrected
JOIN :gen.subscriptions AS said
  ON said.source = corrected.source AND said.subscription_id = corrected.subscription_id
WHERE said.event_id IS NULL;

CREATE OR REPLACE VIEW :views.invoices AS
SELECT source, invoice_id, subscription_id, customer_id, status, amount_due, amount_paid, currency, attempt_count,
       created_at, last_failed_at, paid_at
FROM :gen.invoices;

CREATE OR REPLACE VIEW :views.refunds AS
SELECT source, refund_id, payment_intent_id, charge_id, status, amount, currency, failure_reason, occurred_at
FROM :gen.refunds;

CREATE OR REPLACE VIEW :views.disputes AS
SELECT source, dispute_id, payment_intent_id, charge_id, status, amount, currency, reason, occurred_at
FROM :gen.disputes;

-- A refund counts unless it failed or was canceled. The charge's last word may count refunds whose own events never came,
-- and those that were undone after it. What any event calls a credit purchase is one.
CREATE OR REPLACE VIEW :views.payments AS
SELECT payment.source, payment.payment_intent_id, payment.customer_id, payment.client_reference_id,
       CASE WHEN payment.checkout_purpose = 'credit_purchase' THEN payment.checkout_purpose
            ELSE coalesce(payment.purpose, payment.checkout_purpose) END AS purpose,
       payment.status, payment.amount,
       CASE WHEN returned.amount > 9223372036854775807 THEN 9223372036854775807
            WHEN returned.amount < -9223372036854775808 THEN -9223372036854775808 ELSE returned.amount END::bigint AS amount_refunded,
       payment.currency, payment.failure_code, payment.occurred_at, payment.amount_received, payment.succeeded_at,
       dispute.lost AS amount_lost
FROM :gen.payments AS payment
LEFT JOIN (
    SELECT source, payment_intent_id,
           coalesce(sum(said.amount) FILTER (WHERE NOT said.is_undone), 0) AS standing,
           sum(said.amount) FILTER (WHERE said.is_undone AND said.undone_at > said.charge_knows_until) AS undone
    FROM (
        SELECT source, payment_intent_id, refund.amount,
               coalesce(refund.status IN ('failed', 'canceled'), false) AS is_undone,
               coalesce(refund.undone_at, 'infinity') AS undone_at,
               coalesce(charge.charge_knows_until, '-infinity') AS charge_knows_until
        FROM :gen.refunds AS refund LEFT JOIN :gen.payments AS charge USING (source, payment_intent_id)
    ) AS said GROUP BY source, payment_intent_id
) AS refund USING (source, payment_intent_id)
LEFT JOIN (
    SELECT source, payment_intent_id,
           CASE WHEN sum(amount) > 9223372036854775807 THEN 9223372036854775807
                WHEN sum(amount) < -9223372036854775808 THEN -9223372036854775808 ELSE sum(amount) END::bigint AS lost
    FROM :gen.disputes WHERE status = 'lost' GROUP BY source, payment_intent_id
) AS dispute USING (source, payment_intent_id)
CROSS JOIN LATERAL (
    SELECT greatest(refund.standing,
                    coalesce(payment.charge_refunded, payment.amount_refunded) - coalesce(refund.undone, 0)) AS amount
) AS returned;

-- A purchase gives back the share of its credits that was refunded, or lost in a dispute, rounded down. What was never
-- captured is refunded as well, and nobody paid it. The second half are purchases that do not say themselves whose they
-- are, or how many credits they bring: their payment and its checkout do, once it has succeeded. Apart, so that an index on
-- the customer serves the first.
CREATE OR REPLACE VIEW :views.credit_entries AS
SELECT entry.source, entry.entry_id, entry.kind, entry.customer_id, entry.credits,
       CASE WHEN entry.kind = 'purchase'
            THEN CASE WHEN share.credits > 9223372036854775807 THEN 9223372036854775807
                      WHEN share.credits < -9223372036854775808 THEN -9223372036854775808 ELSE share.credits END::bigint
            ELSE 0 END AS credits_refunded,
       entry.occurred_at, entry.reason
FROM :gen.credit_entries AS entry
LEFT JOIN :views.payments AS payment ON payment.source = entry.source AND payment.payment_intent_id = entry.entry_id
CROSS JOIN LATERAL (
    SELECT greatest(coalesce(payment.amount_refunded, 0)::numeric
                    - greatest(payment.amount::numeric - nullif(payment.amount_received, 0), 0), 0)
           + coalesce(payment.amount_lost, 0) AS amount
) AS returned
CROSS JOIN LATERAL (
    SELECT div(entry.credits::numeric * least(returned.amount, entry.amount), nullif(entry.amount, 0)) AS credits
) AS share
WHERE entry.customer_id IS NOT NULL
UNION ALL
SELECT entry.source, entry.entry_id, 'purchase', payment.customer_id, coalesce(entry.credits, entry.checkout_credits),
       CASE WHEN share.credits > 9223372036854775807 THEN 9223372036854775807
            WHEN share.credits < -9223372036854775808 THEN -9223372036854775808 ELSE share.credits END::bigint,
       coalesce(entry.occurred_at, payment.succeeded_at), entry.reason
FROM :gen.credit_entries AS entry
JOIN :views.payments AS payment ON payment.source = entry.source AND payment.payment_intent_id = entry.entry_id
CROSS JOIN LATERAL (
    SELECT coalesce(entry.amount, nullif(payment.amount_received, 0), payment.amount) AS paid
) AS cost
CROSS JOIN LATERAL (
    SELECT greatest(coalesce(payment.amount_refunded, 0)::numeric
                    - greatest(payment.amount::numeric - nullif(payment.amount_received, 0), 0), 0)
           + coalesce(payment.amount_lost, 0) AS amount
) AS returned
CROSS JOIN LATERAL (
    SELECT div(coalesce(entry.credits, entry.checkout_credits)::numeric * least(returned.amount, cost.paid),
               nullif(cost.paid, 0)) AS credits
) AS share
WHERE entry.customer_id IS NULL
  AND (entry.kind IS NOT NULL
       OR payment.purpose = 'credit_purchase' AND payment.succeeded_at IS NOT NULL AND cost.paid > 0);

-- Credits that were paid and are in nobody's balance, and why. A row goes once an event says what is missing.
CREATE OR REPLACE VIEW :views.unassigned_purchases AS
SELECT payment.source, payment.payment_intent_id, payment.client_reference_id, payment.amount, payment.currency,
       coalesce(payment.succeeded_at, payment.occurred_at) AS occurred_at,
       concat_ws(', ',
           CASE WHEN payment.succeeded_at IS NULL AND entry.entry_id IS NULL THEN 'no_payment_intent' END,
           CASE WHEN coalesce(nullif(payment.amount_received, 0), payment.amount) = 0 THEN 'no_amount'
                WHEN coalesce(said.credits, said.checkout_credits) IS NULL THEN 'no_credits' END,
           CASE WHEN coalesce(entry.customer_id, payment.customer_id) IS NULL THEN 'no_customer' END
       ) AS problem
FROM :views.payments AS payment
LEFT JOIN :gen.credit_entries AS said ON said.source = payment.source AND said.entry_id = payment.payment_intent_id
LEFT JOIN :views.credit_entries AS entry
       ON entry.source = payment.source AND entry.entry_id = payment.payment_intent_id AND entry.kind = 'purchase'
WHERE payment.purpose = 'credit_purchase' AND (payment.succeeded_at IS NOT NULL OR payment.status = 'succeeded')
  AND (entry.entry_id IS NULL OR entry.customer_id IS NULL);

-- Usages that are more than one under one id: their entry shows the latest, and nobody is charged for the others. Which
-- sender announced which of them is not stored here: the events say.
CREATE OR REPLACE VIEW :views.conflicting_usages AS
SELECT source, entry_id, customer_id, credits, occurred_at, last_occurred_at, first_sender, last_sender,
       concat_ws(', ',
           CASE WHEN first_sender <> last_sender THEN 'several_senders' END,
           CASE WHEN has_disagreement OR occurred_at <> last_occurred_at THEN 'several_contents' END
       ) AS problem
FROM :gen.credit_entries
WHERE kind = 'usage' AND (first_sender <> last_sender OR has_disagreement OR occurred_at <> last_occurred_at);

CREATE OR REPLACE VIEW :views.credits AS
SELECT source, customer_id,
       CASE WHEN balance > 9223372036854775807 THEN 9223372036854775807
            WHEN balance < -9223372036854775808 THEN -9223372036854775808 ELSE balance END::bigint AS balance,
       CASE WHEN used_30d > 9223372036854775807 THEN 9223372036854775807
            WHEN used_30d < -9223372036854775808 THEN -9223372036854775808 ELSE used_30d END::bigint AS used_30d,
       updated_at
FROM (
    SELECT source, customer_id,
           sum(credits::numeric - credits_refunded) AS balance,
           coalesce(-sum(credits) FILTER (WHERE kind = 'usage' AND occurred_at > now() - interval '30 days'), 0) AS used_30d,
           max(occurred_at) AS updated_at
    FROM :views.credit_entries
    WHERE customer_id IS NOT NULL
    GROUP BY source, customer_id
) AS summed;

CREATE OR REPLACE VIEW :views.accounts AS
WITH customer AS (
    SELECT source, customer_id FROM :gen.subscriptions WHERE customer_id IS NOT NULL
    UNION SELECT source, customer_id FROM :gen.invoices WHERE customer_id IS NOT NULL
    UNION SELECT source, customer_id FROM :gen.payments WHERE customer_id IS NOT NULL
    UNION SELECT source, customer_id FROM :gen.credit_entries WHERE customer_id IS NOT NULL
    UNION SELECT source, customer_id FROM :gen.account_corrections
    UNION SELECT source, customer_id FROM :gen.subscription_corrections WHERE customer_id IS NOT NULL
), ranked AS (
    -- Those that count come first; within either kind, the one whose last event is the latest.
    SELECT *,
           row_number() OVER (
               PARTITION BY source, customer_id
               ORDER BY (status NOT IN ('canceled', 'incomplete_expired')) DESC, event_created DESC NULLS LAST, event_id DESC
           ) AS place
    FROM :views.subscriptions
    WHERE customer_id IS NOT NULL
), shown AS (
    SELECT * FROM ranked WHERE place = 1
), unpaid AS (
    SELECT source, customer_id, min(event_created) AS since
    FROM ranked WHERE status = 'unpaid' GROUP BY source, customer_id
), failing AS (
    SELECT source, customer_id, min(last_failed_at) AS since
    FROM :gen.invoices
    WHERE status = 'open' AND last_failed_at IS NOT NULL AND customer_id IS NOT NULL
    GROUP BY source, customer_id
), freezing AS (
    SELECT customer.source, customer.customer_id,
           CASE WHEN failing.since IS NOT NULL THEN 'invoice_payment_failed'
                WHEN unpaid.since IS NOT NULL THEN 'subscription_unpaid'
                WHEN shown.status = 'canceled' THEN 'subscription_canceled' END AS reason,
           CASE WHEN failing.since IS NOT NULL THEN failing.since
                WHEN unpaid.since IS NOT NULL THEN unpaid.since
                WHEN shown.status = 'canceled' THEN shown.event_created END AS since
    FROM customer
    LEFT JOIN shown USING (source, customer_id)
    LEFT JOIN unpaid USING (source, customer_id)
    LEFT JOIN failing USING (source, customer_id)
), word AS (
    -- An operator's, for as long as the provider has said nothing later of what freezes.
    SELECT said.source, said.customer_id, said.is_frozen, said.corrected_at
    FROM :gen.account_corrections AS said
    WHERE NOT EXISTS (
        SELECT FROM :gen.subscriptions AS later
        WHERE later.source = said.source AND later.customer_id = said.customer_id
          AND later.event_created > said.corrected_at
    ) AND NOT EXISTS (
        SELECT FROM :gen.invoices AS later
        WHERE later.source = said.source AND later.customer_id = said.customer_id
          AND greatest(later.last_failed_at, later.paid_at, later.given_up_at) > said.corrected_at
    )
)
SELECT customer.source, customer.customer_id,
       coalesce(word.is_frozen, freezing.reason IS NOT NULL) AS is_frozen,
       CASE WHEN word.is_frozen THEN 'operator' WHEN word.is_frozen IS NULL THEN freezing.reason END AS frozen_reason,
       CASE WHEN word.is_frozen THEN word.corrected_at WHEN word.is_frozen IS NULL THEN freezing.since END AS frozen_at,
       shown.subscription_id,
       shown.status AS subscription_status,
       tier.name AS subscription_tier,
       shown.current_period_end,
       coalesce(credits.balance, 0) AS credit_balance
FROM customer
JOIN freezing USING (source, customer_id)
LEFT JOIN word USING (source, customer_id)
LEFT JOIN shown USING (source, customer_id)
LEFT JOIN redrive.price_tiers AS tier ON tier.price_id = shown.price_id
LEFT JOIN :views.credits AS credits USING (source, customer_id);

-- Telnyx says when a call was answered and when it ended, and nothing more: what that amounts to is derived, because the
-- answer may come after the hangup.
CREATE OR REPLACE VIEW :views.calls AS
SELECT source, call_id, provider, direction, caller, callee,
       CASE WHEN provider = 'telnyx' AND ended_at IS NOT NULL AND answered_at IS NOT NULL THEN 'completed'
            ELSE status END AS status,
       started_at, answered_at, ended_at,
       CASE WHEN provider = 'telnyx' AND ended_at IS NOT NULL
            THEN CASE WHEN answered_at IS NULL OR talk.seconds < 0 THEN 0 ELSE floor(talk.seconds) END
            ELSE duration_seconds END::numeric(12,3) AS duration_seconds,
       talk.seconds::numeric(12,3) AS talk_seconds,
       end_reason, recording_url, summary, sentiment
FROM :gen.calls
CROSS JOIN LATERAL (
    SELECT CASE WHEN abs(between_them.seconds) < 1000000000 - 1 THEN between_them.seconds END AS seconds
    FROM (SELECT extract(epoch FROM ended_at) - extract(epoch FROM answered_at) AS seconds) AS between_them
) AS talk;

-- An object is there until it is said to be gone: a property may change before the creation has come.
-- Postgres holds 256 MiB in one jsonb, and raises beyond: the smallest properties are shown, up to 16 MiB.
CREATE OR REPLACE VIEW :views.crm_objects AS
SELECT object.source, object.portal_id, object.object_type, object.object_id,
       coalesce(object.exists, true) AS exists,
       coalesce(property.properties, '{}'::jsonb) AS properties,
       coalesce(property.left_out, 0) AS properties_left_out
FROM :gen.crm_objects AS object
LEFT JOIN (
    SELECT source, portal_id, object_type, object_id,
           jsonb_object_agg(name, value) FILTER (WHERE bytes <= 16777216) AS properties,
           count(*) FILTER (WHERE bytes > 16777216) AS left_out
    FROM (
        SELECT *, sum(octet_length(name) + coalesce(octet_length(value), 0)) OVER (
            PARTITION BY source, portal_id, object_type, object_id
            ORDER BY octet_length(value) NULLS FIRST, name ROWS UNBOUNDED PRECEDING
        ) AS bytes
        FROM :gen.crm_properties
    ) AS measured
    GROUP BY source, portal_id, object_type, object_id
) AS property USING (source, portal_id, object_type, object_id);

CREATE OR REPLACE VIEW :views.contact_preferences AS
SELECT source, our_number, peer_number, category, value, value = 'stop' AS is_opted_out, changed_at
FROM :gen.contact_preferences;
