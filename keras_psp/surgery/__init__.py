"""How a given network is rewritten: dilated, fused, counted."""
