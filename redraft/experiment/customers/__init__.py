"""Customers of the generated shop who answer to lists, so that what an arm truly does is known."""
