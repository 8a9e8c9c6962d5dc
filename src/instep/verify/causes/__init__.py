"""The known ways to be wrong: for each operator, the mistakes that conversions make, as variants of its meaning."""

from instep.verify.causes import elementwise, linear, reduce, shape, spatial  # noqa: F401  (they fill the table)
from instep.verify.causes.table import CAUSES, Context, Variant, variants_of

__all__ = ["CAUSES", "Context", "Variant", "variants_of"]
