-- Orders that are charged more than once; and how many orders payment was asked to charge.
SELECT count(*) FILTER (WHERE charges > 1) AS "value",
       count(*) AS "over"
FROM (SELECT count(*) FILTER (WHERE status = 'CHARGED') AS charges FROM charges GROUP BY order_id) AS orders
