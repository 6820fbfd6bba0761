"""A small shop of five services that fails like a real one: what the harness is shown on, and proved on.

gateway ─▶ order ─▶ inventory, payment, shipping      each with a PostgreSQL database of its own, except gateway
   ├─────▶ inventory (catalog)                        order ─▶ Redis ─▶ inventory: what became of an order
   └─────▶ shipping (tracking)

Begin with `saga.py`: what an order goes through, and what happens when a step cannot be done.
"""
