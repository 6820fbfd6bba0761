-- Cancelled orders that payment was asked to charge, and of which it has not confirmed that nothing is charged any more;
-- and how many cancelled orders payment was asked to charge. What an order costs is known just before it is asked.
SELECT count(*) FILTER (WHERE refunded_at IS NULL) AS "value",
       count(*) AS "over"
FROM orders
WHERE status IN ('CANCELLING', 'CANCELLED') AND amount IS NOT NULL
