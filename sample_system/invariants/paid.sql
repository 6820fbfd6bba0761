-- Paid orders that were neither shipped nor refunded; and how many paid orders there are.
SELECT count(*) FILTER (WHERE shipped_at IS NULL AND refunded_at IS NULL) AS "value",
       count(*) AS "over"
FROM orders
WHERE paid_at IS NOT NULL
