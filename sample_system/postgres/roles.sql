CREATE ROLE orders LOGIN PASSWORD 'orders';
CREATE ROLE payments LOGIN PASSWORD 'payments';
CREATE ROLE stock LOGIN PASSWORD 'stock';
CREATE ROLE shipments LOGIN PASSWORD 'shipments';
CREATE DATABASE orders OWNER orders;
CREATE DATABASE payments OWNER payments;
CREATE DATABASE stock OWNER stock;
CREATE DATABASE shipments OWNER shipments;
