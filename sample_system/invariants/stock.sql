-- Reservations that are still held, and goods of which more or less is there than was delivered and did not go;
-- and how many reservations there are.
SELECT (SELECT count(*) FROM reservations WHERE status = 'HELD') + (
           SELECT count(*)
           FROM stock
           WHERE available <> delivered - coalesce(
               (SELECT sum(quantity) FROM reservations WHERE reservations.sku = stock.sku AND status <> 'RELEASED'), 0)
       ) AS "value",
       (SELECT count(*) FROM reservations WHERE sku IS NOT NULL) AS "over"
