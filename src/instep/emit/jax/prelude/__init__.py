"""The text of helpers that exported JAX code brings along; Instep reads these files and never imports them."""
