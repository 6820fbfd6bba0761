-- Orders that are still on their way; and how many orders there are.
SELECT count(*) FILTER (WHERE status NOT IN ('SHIPPED', 'CANCELLED')) AS "value",
       count(*) AS "over"
FROM orders
