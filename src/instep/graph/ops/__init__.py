"""All operators, one namespace: ``from instep.graph import ops`` then ``ops.Conv2d(...)``."""

from instep.graph.ops.convolution import *  # noqa: F403
from instep.graph.ops.elementwise import *  # noqa: F403
from instep.graph.ops.elementwise import LogicalNot  # noqa: F401
from instep.graph.ops.images import Pads2d  # noqa: F401
from instep.graph.ops.linear import *  # noqa: F403
from instep.graph.ops.pooling import *  # noqa: F403
from instep.graph.ops.reduce import *  # noqa: F403
from instep.graph.ops.resampling import *  # noqa: F403
from instep.graph.ops.shape import *  # noqa: F403
from instep.graph.ops.unfolding import *  # noqa: F403
