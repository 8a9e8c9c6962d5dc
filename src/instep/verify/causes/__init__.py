"""The known ways to be wrong: for each operator, the mistakes that conversions make, as variants of its meaning."""

# They fill the table; of two causes that fit equally well, the one that comes first is named.
# isort: off
from instep.verify.causes import spatial  # noqa: F401
from instep.verify.causes import sampling  # noqa: F401
from instep.verify.causes import linear  # noqa: F401
from instep.verify.causes import reduce  # noqa: F401
from instep.verify.causes import shape  # noqa: F401
from instep.verify.causes import elementwise  # noqa: F401

# isort: on
from instep.verify.causes.table import CAUSES, Context, Variant, variants_of

__all__ = ["CAUSES", "Context", "Variant", "variants_of"]
