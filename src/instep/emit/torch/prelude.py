"""Functions that the code brings along where PyTorch has no function of its own; only those that it uses."""

PRELUDE: dict[str, str] = {
    "FixedBatchNorm": '''
class FixedBatchNorm(nn.BatchNorm2d):
    """Batch norm of any rank that keeps to its running statistics while the rest is trained: it stays in eval mode."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.eval()

    def train(self, mode=True):
        return super().train(False)

    def _check_input_dim(self, input):
        pass
''',
    "without": '''
def without(layer, *names):
    """``layer`` without these of its parameters."""
    for name in names:
        layer.register_parameter(name, None)
    return layer
''',
    "frozen": '''
def frozen(layer, *names):
    """``layer``, whose parameters of these names are not trained."""
    for name in names:
        getattr(layer, name).requires_grad_(False)
    return layer
''',
    "pad_by_index": '''
def pad_by_index(x, pads, mode):
    """x with pads[i] = (before, after) places more on axis i: "reflect", "replicate" or "circular"."""
    for axis, (before, after) in enumerate(pads):
        size = x.shape[axis]
        index = torch.arange(-before, size + after, device=x.device)
        if mode == "replicate":
            index = index.clamp(0, size - 1)
        elif mode == "circular":
            index = index % size
        else:
            index = index % max(2 * size - 2, 1)
            index = torch.minimum(index, 2 * size - 2 - index)
        x = x.index_select(axis, index)
    return x
''',
    "avg_pool": '''
def avg_pool(x, kernel, stride, padding, overhang, count_include_pad):
    """The mean over windows; places on ``overhang`` never count, those on ``padding`` where they are to be counted."""
    (top, bottom), (left, right) = padding
    pads, beyond = (left, right, top, bottom), (0, overhang[1], 0, overhang[0])
    counted = F.pad(torch.ones_like(x[:1, :1]), pads, value=float(count_include_pad))
    total = F.avg_pool2d(F.pad(F.pad(x, pads), beyond), kernel, stride)
    return total / F.avg_pool2d(F.pad(counted, beyond), kernel, stride)
''',
    "depth_to_space": '''
def depth_to_space(x, block):
    """TensorFlow's order of channels: (dy, dx, c)."""
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // block**2, h * block, w * block)
''',
    "space_to_depth": '''
def space_to_depth(x, block):
    """TensorFlow's order of channels: (dy, dx, c)."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * block**2, h // block, w // block)
''',
    "cubic": '''
def cubic(t, a):
    """The cubic convolution kernel."""
    t = t.abs()
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))
''',
    "resize_matrix": '''
def resize_matrix(size, out, mode, coordinates, scale, antialias):
    """The [out, size] matrix that resizes one axis."""
    ratio = 1 / scale if scale else size / out
    i = torch.arange(out, dtype=torch.float64)
    if coordinates == "align_corners":
        ratio = (size - 1) / (out - 1) if out > 1 else 0.0
        position = i * ratio
    elif coordinates == "asymmetric":
        position = i * ratio
    else:
        position = (i + 0.5) * ratio - 0.5
    places = torch.arange(size, dtype=torch.float64)
    if mode == "nearest":
        single = torch.tensor(ratio, dtype=torch.float32)
        shift = 0.5 if coordinates == "half_pixel" else 0.0
        index = torch.floor((i.float() + shift) * single)
        if coordinates == "align_corners":
            index = torch.floor(position + 0.5)
        return F.one_hot(index.long().clamp(0, size - 1), size).double()
    if antialias:
        wide = max(ratio, 1.0)
        support = (1.0 if mode == "bilinear" else 2.0) * wide
        center = position[:, None] + 0.5
        low, high = (center - support + 0.5).trunc(), (center + support + 0.5).trunc()
        t = (places - center + 0.5) / wide
        weight = (1 - t.abs()).clamp(min=0) if mode == "bilinear" else cubic(t, -0.5)
        weight = torch.where((places >= low) & (places < high), weight, 0.0)
        return weight / weight.sum(1, keepdim=True)
    if mode == "bilinear":
        position = position.clamp(min=0)
    base = torch.floor(position)
    matrix = torch.zeros(out, size, dtype=torch.float64)
    for step in range(2) if mode == "bilinear" else range(-1, 3):
        weight = cubic(position - base - step, -0.75)
        if mode == "bilinear":
            weight = position - base if step else 1 - position + base
        index = (base + step).clamp(0, size - 1).long()
        matrix.scatter_add_(1, index[:, None], weight[:, None])
    return matrix
''',
    "resize": '''
def resize(x, size, mode, coordinates, scale=None, antialias=False):
    """x [N, C, H, W] resized to ``size``, with the ``coordinates`` of other frameworks."""
    rows, columns = (
        resize_matrix(x.shape[2 + axis], size[axis], mode, coordinates, scale[axis] if scale else None, antialias)
        for axis in (0, 1)
    )
    return rows.to(x) @ x @ columns.to(x).T
''',
    "kernel": '''
def kernel(model, name):
    """The parameter of a name like ``stem.conv.weight``."""
    return model.get_parameter(name)
''',
    "kernels": '''
def kernels(model, free=()):
    """All parameters with several axes but those of these names."""
    return [w for name, w in model.named_parameters() if w.ndim > 1 and name not in free]
''',
}
