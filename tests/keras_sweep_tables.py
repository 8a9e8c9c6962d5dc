"""What the sweep over Keras' layers and functions builds, as expressions; ``keras_sweep.py`` evaluates them.

``ops``, ``L`` (the layers), ``A`` (the activations) and ``K`` (constants of a shape) are known to them, and the inputs
of ``SHAPES``, each of which comes with a batch of two; whole numbers are below five.
"""

from __future__ import annotations

__all__ = ["FUNCTIONS", "LAYERS", "LAYERS_2", "REFUSED", "REFUSED_2", "SHAPES"]

SHAPES: dict[str, tuple[tuple[int, ...], str]] = {
    "x": ((6, 5, 4), "float32"), "y": ((6, 5, 4), "float32"), "s": ((5, 5), "float32"), "v": ((6,), "float32"),
    "o": ((6,), "float32"),
    "w": ((64,), "float32"), "p": ((9, 8, 3), "float32"), "t": ((7, 4), "float32"),
    "q": ((6, 7, 5, 4), "float32"), "n": ((4, 5, 6, 3), "float32"), "f": ((4, 9), "float32"),
    "g": ((4, 9, 8), "float32"), "i": ((6,), "int32"), "j": ((6,), "int32"), "c": ((9, 8, 3), "int32"),
    "m": ((6,), "bool"), "k": ((7, 7), "bool"),
}  # fmt: skip

#: Families of keras.ops.
FUNCTIONS: dict[str, list[str]] = {
    "elements": [
        f"ops.{name}({argument})"
        for argument, names in {
            "x": "absolute cbrt ceil cosh sinh tan deg2rad rad2deg erfc exp2 expm1 fabs floor arcsinh arctan round "
                 "sign signbit sinc trunc angle imag real conj copy celu elu gelu glu hard_shrink hard_tanh leaky_relu "
                 "log_sigmoid selu silu soft_shrink softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus "
                 "tanh_shrink",
            "ops.tanh(x)": "arccos arcsin arctanh",
            "ops.abs(x) + 1.0": "arccosh log log10 log2 log1p sqrt rsqrt reciprocal",
        }.items() for name in names.split()
    ] + ["ops.round(x, 1)", "ops.clip(x, -0.2, 0.3)", "ops.threshold(x, 0.2, 0.1)", "ops.softmax(x, axis=None)",
         "ops.log_softmax(x, axis=1)", "ops.sparsemax(x, axis=1)", "ops.squareplus(x, 2)", "ops.celu(x, 0.5)"],
    "of two": [
        "ops.arctan2(x, y)", "ops.divide_no_nan(x, ops.relu(y))", "ops.floor_divide(x, 0.3)", "ops.fmax(x, y)",
        "ops.fmin(x, y)", "ops.fmod(x, 0.3)", "ops.fmod(x, y)", "ops.mod(x, 0.4)", "ops.hypot(x, y)",
        "ops.logaddexp(x, y)", "ops.logaddexp2(x, y)", "ops.ldexp(x, i[:, :, None, None])",
        "ops.heaviside(x, ops.convert_to_tensor(0.5))", "ops.isclose(x, x + 1e-6)", "ops.allclose(x, y)",
        "ops.select([x > 0, y > 0], [x, y], 0.5)", "ops.where(x > 0, 1, 0)", "ops.where(x > 0, x, 1.0)",
        "ops.linspace(v, v + 3, 5)", "ops.linspace(v, v + 3, 5, endpoint=False, axis=1)", "ops.logspace(v, v + 1, 4)",
        "ops.multiply(x, ops.convert_to_tensor([1.0, 2.0, 3.0, 4.0]))", "2 ** x", "ops.empty_like(x) * 0",
    ],
    # Keras makes fractions of whole numbers in most of these, and keeps them in the others
    "whole numbers": [
        "ops.add(i, 2.0)", "ops.add(i, 2)", "i / 2", "i * 2.5", "2 - i", "ops.add(x, i[:, :, None, None])", "i + j",
        "ops.mean(i, axis=1)", "ops.mean(m, axis=1)", "ops.sum(m, axis=1)", "ops.var(i, axis=1)", "ops.std(i, axis=1)",
        "ops.average(i, axis=1)", "ops.median(i, axis=1)", "ops.max(m, axis=1)", "ops.prod(m, axis=1)",
        "ops.cumsum(m, axis=1)", "ops.all(i, axis=1)", "ops.any(i, axis=1)", "ops.logical_not(i)",
        "ops.logical_xor(m, i)", "ops.logical_and(m, i)", "ops.where(m, i, 0.5)", "ops.where(m, i, 0)",
        "ops.maximum(i, 0.5)", "ops.power(i, 0.5)", "ops.sqrt(i)", "ops.exp(i)", "ops.floor(i)", "ops.sign(i)",
        "ops.matmul(i, ops.convert_to_tensor([[1, 2]] * 6, 'int32'))", "ops.fmod(i, 2)", "ops.concatenate([i, v], 1)",
        "ops.bitwise_and(i, ops.convert_to_tensor(3, 'int32'))", "ops.bitwise_or(i, ops.convert_to_tensor(6, 'int32'))",
        "ops.bitwise_xor(ops.convert_to_tensor(6, 'int32'), i)", "ops.bitwise_invert(i)",
        "ops.right_shift(i, ops.convert_to_tensor(1, 'int32'))", "ops.left_shift(i, ops.convert_to_tensor(2, 'int32'))",
        "ops.saturate_cast(x * 300, 'int8')", "ops.isin(i, [1, 3])", "ops.count_nonzero(i)", "~m", "m & (i > 2)",
    ],
    "no numbers": [
        "ops.isnan(ops.log(x))", "ops.isfinite(1 / ops.relu(x))", "ops.isinf(1 / ops.relu(x))",
        "ops.isposinf(1 / ops.relu(x))", "ops.isneginf(-1 / ops.relu(x))", "ops.nan_to_num(ops.log(x))",
        "ops.nan_to_num(1 / ops.relu(x), nan=3.0, posinf=7.0)", "ops.isreal(x)",
        *[f"ops.nan{name}(ops.log(x), axis=1)" for name in ("sum", "prod", "max", "min", "mean", "var", "std")],
        "ops.nancumsum(ops.log(x), axis=1)", "ops.nancumprod(ops.log(x), axis=1)",
    ],
    "reductions": [
        "ops.max(x, axis=1, initial=0.5)", "ops.min(x, axis=1, initial=0.5)", "ops.argmin(x, axis=2)", "ops.argmin(x)",
        "ops.argmax(x, axis=-1, keepdims=True)", "ops.average(x, axis=1)", "ops.average(x, axis=1, weights=y)",
        "ops.average(x, axis=1, weights=K(6))", "ops.count_nonzero(x > 0, axis=1)", "ops.cumprod(x, axis=1)",
        "ops.cumsum(x)", "ops.diff(x, axis=1)", "ops.diff(x, n=2)", "ops.in_top_k(i[:, 0], v, 3)",
        "ops.median(x, axis=(1, 2), keepdims=True)", "ops.median(v)", "ops.quantile(x, [0.3, 0.5], axis=1)",
        "ops.percentile(x, 30.0, axis=1, method='nearest')",
        "ops.percentile(x, [30.0, 70.0], axis=1, method='midpoint')",
        "ops.percentile(x, 30.0, axis=(1, 2), method='lower')", "ops.ptp(x, axis=1)", "ops.sort(x, axis=1)",
        "ops.argsort(x, axis=1)", "ops.sort(v, axis=None)", "ops.std(x, axis=(1, 2), keepdims=True)",
        "ops.trapezoid(x, dx=0.5)", "ops.moments(x, axes=(1, 2))[1]", "ops.logsumexp(x)",
    ],
    "views": [
        "ops.append(x, y, axis=1)", "ops.append(v, v)", "ops.array_split(v, 4, axis=1)[0]", "ops.hsplit(x, 2)[1]",
        "ops.vsplit(x, 2)[1]", "ops.dsplit(x, 5)[3]", "ops.hstack([x, y])",
        "ops.vstack([x, y])", "ops.dstack([x, y])", "ops.fliplr(x)", "ops.flipud(x)", "ops.rot90(x, axes=(1, 2))",
        "ops.rot90(x, k=3, axes=(1, 2))", "ops.rot90(s, k=2, axes=(1, 2))", "ops.roll(x, 2)", "ops.ravel(x)",
        "ops.meshgrid(v[0], v[1, :3])[0]", "ops.meshgrid(v[0], v[1, :3], indexing='ij')[1]",
        "ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], mode='symmetric')", "ops.tile(v, (1, 1, 2))", "ops.repeat(x, 2)",
        "ops.repeat(x, [1, 2, 1, 1, 0, 3], axis=1)", "ops.repeat(x, [2], axis=1)", "ops.tril(s, 1)", "ops.triu(s, -1)",
        "ops.diagonal(x, offset=1, axis1=1, axis2=2)", "ops.trace(x, offset=1, axis1=1, axis2=2)", "ops.diag(v[0], 1)",
        "ops.diag(s[0], -1)", "ops.diagflat(v[0])", "ops.vander(v[0], 4, increasing=True)",
        "ops.slice(x, (0, 1, 1, 0), (2, 3, 2, 4))", "ops.slice_update(x, (0, 1, 1, 0), K(2, 2, 3, 4))", "x[:, 5:1:-2]",
    ],
    "picking": [
        "ops.take(x, [1, 3])", "ops.take(x, i)", "ops.take(v, i - 2, axis=1)", "ops.take(x, [0, -1], axis=-1)",
        "ops.take(x, [[0, 1], [2, 3]], axis=2)", "ops.take_along_axis(v, i - 2, axis=1)",
        "ops.take_along_axis(x, ops.argsort(x, axis=1), axis=1)", "ops.one_hot(i, 5)", "ops.one_hot(i, 3, axis=1)",
        "ops.multi_hot(i, 5)", "ops.digitize(x, ops.convert_to_tensor([-1.0, 0.0, 1.0]))",
        "ops.searchsorted(ops.sort(v[0]), x[0, 0, 0])", "ops.unravel_index(i[:, 0], (2, 3))[1]",
        "ops.segment_sum(x, ops.convert_to_tensor([0, 0], 'int32'), num_segments=3)",
        "ops.segment_sum(v[0], i[0], num_segments=5)",
    ],
    "matrices": [
        "ops.dot(x, K(4, 3))", "ops.dot(s, K(3, 5, 2))", "ops.dot(x, 2.0)", "ops.inner(v, K(3, 6))",
        "ops.vdot(v[0], v[1])", "ops.outer(v[0], v[1])", "ops.kron(s[0], s[1])", "ops.cross(p, p[:, ::-1])",
        "ops.tensordot(x, K(5, 4, 3), axes=2)", "ops.tensordot(x, K(6, 3), axes=[[1], [0]])", "ops.cdist(s, s[:, :3])",
        "ops.corrcoef(v)", "ops.norm(x, axis=1)", "ops.norm(x, ord=1, axis=1)", "ops.norm(x, ord=np.inf, axis=1)",
        "ops.norm(x, ord=3, axis=1, keepdims=True)", "ops.norm(x, ord='fro', axis=(1, 2))",
    ],
    "normalising": [
        "ops.batch_normalization(x, K(4), ops.abs(K(4)) + 0.5, axis=-1, offset=K(4), scale=K(4), epsilon=0.1)",
        "ops.batch_normalization(x, ops.mean(y, axis=(0, 1, 2)), ops.var(y, axis=(0, 1, 2)), axis=-1)",
        "ops.layer_normalization(x, K(4), K(4))", "ops.layer_normalization(x, axis=(1, 2))", "ops.rms_normalization(x)",
        "ops.rms_normalization(x, K(4), epsilon=0.1)", "ops.rms_normalization(x, 2.0, axis=(1, 2))",
        "ops.normalize(x, order=1)", "ops.normalize(x, order=3, axis=1)", "ops.nn.dot_product_attention(x, y, y)",
        "ops.nn.dot_product_attention(x, y, y, is_causal=True, scale=0.3)",
        "ops.nn.dot_product_attention(x, y, y, bias=K(2, 5, 6, 6), mask=K(2, 5, 6, 6) > -1.0)",
    ],
    "spectra": [
        "ops.fft((w, w[:, ::-1]))[1]", "ops.fft2((s, s + 1.0))[0]", "ops.ifft2((s, s + 1.0))[1]", "ops.rfft(w)[1]",
        "ops.rfft(w, 50)[0]", "ops.irfft((w[:, :33], w[:, 31:]))", "ops.stft(w, 16, 4, 16)[0]",
        "ops.stft(w, 12, 5, 16, window='hamming')[1]", "ops.stft(w, 16, 4, 32, window=None, center=False)[1]",
        "ops.extract_sequences(w, 8, 4)",
    ],
    "pictures": [
        *[f"ops.image.resize(p, (5, 12), interpolation='{mode}')" for mode in ("bicubic", "lanczos3", "lanczos5")],
        "ops.image.resize(p, (5, 4), interpolation='bicubic', antialias=True)",
        "ops.image.resize(p, (5, 12), interpolation='lanczos3', antialias=True)",
        "ops.image.resize(p, (5, 5), crop_to_aspect_ratio=True)",
        "ops.image.resize(p, (4, 9), crop_to_aspect_ratio=True)",
        "ops.image.resize(p, (5, 5), pad_to_aspect_ratio=True, fill_value=0.5)",
        "ops.image.resize(p, (4, 9), pad_to_aspect_ratio=True)", "ops.image.crop_images(p, 1, 2, 1, 1)",
        "ops.image.crop_images(p, target_height=4, target_width=3, top_cropping=1, left_cropping=2)",
        "ops.image.pad_images(p, target_height=12, target_width=11, top_padding=1, left_padding=2)",
        "ops.image.extract_patches(p, (3, 2), strides=1, padding='same')", "ops.image.extract_patches(p, 2)",
        "ops.image.extract_patches(p, 3, strides=1, dilation_rate=2, padding='same')",
        "ops.image.extract_patches_3d(q, (2, 1, 2))", "ops.image.gaussian_blur(p, (3, 3), (1.5, 0.7))",
        "ops.image.hsv_to_rgb(ops.sigmoid(p))", "ops.image.rgb_to_hsv(ops.sigmoid(p))",
        "ops.image.rgb_to_grayscale(p)", "ops.image.sobel_edges(p)",
        "ops.unfold(ops.transpose(p, (0, 3, 1, 2)), (2, 3), stride=2)", "ops.adaptive_max_pool(p, (4, 3))",
        "ops.fold(ops.unfold(ops.transpose(p, (0, 3, 1, 2)), 3, padding=1), (9, 8), 3, padding=1)",
        "ops.adaptive_average_pool(p, (4, 3), data_format='channels_first')",
    ],
}  # fmt: skip

_LAYERS: dict[str, list[str]] = {
    "preprocessing": [
        "L.CategoryEncoding(5)(i)", "L.CategoryEncoding(5, output_mode='count')(i)",
        "L.CategoryEncoding(5, output_mode='count')(i, count_weights=v)",
        "L.CategoryEncoding(5, output_mode='one_hot')(i[:, :1])", "L.Discretization([-1.0, 0.0, 0.5])(x)",
        "L.Discretization([-1.0, 0.0, 0.5], output_mode='multi_hot')(v)",
        "L.Discretization([-1.0, 0.0, 0.5], output_mode='count')(v)", "L.IntegerLookup(vocabulary=[1, 2, 3])(i)",
        "L.IntegerLookup(vocabulary=[1, 2, 3], mask_token=0)(i)",
        "L.IntegerLookup(vocabulary=[1, 2, 3], output_mode='multi_hot')(i)", "L.CenterCrop(4, 5)(p)",
        "L.CenterCrop(12, 10)(p)", "L.CenterCrop(4, 10)(p)", "L.CenterCrop(4, 5)(c)", "L.RandomCrop(4, 3)(p)",
        "L.RandomCrop(9, 8)(p)", "L.RandomFlip()(c)", "L.RandomBrightness(0.2)(c)", "L.RandomZoom(0.2)(c)",
        "L.RandomContrast(0.2)(p)", "L.Rescaling(1 / 255.0, -0.5)(c)", "L.Normalization(mean=1.0, variance=2.0)(c)",
        *[f"L.Resizing(5, 12, interpolation='{mode}')(p)" for mode in ("bicubic", "lanczos3", "lanczos5", "nearest")],
        "L.Resizing(5, 6, crop_to_aspect_ratio=True)(p)", "L.Resizing(5, 9, crop_to_aspect_ratio=True)(p)",
        "L.Resizing(5, 6, interpolation='nearest')(c)",
        *[f"L.UpSampling2D((2, 3), interpolation='{mode}')(x)" for mode in ("bicubic", "lanczos3", "lanczos5")],
    ],
    "attention of other ranks": [
        "L.MultiHeadAttention(2, 3)(x, x)", "L.MultiHeadAttention(2, 3, attention_axes=(1, 2))(x, x)",
        "L.MultiHeadAttention(2, 3, attention_axes=(2,))(x, x)", "L.MultiHeadAttention(2, 3, attention_axes=1)(x, x)",
        "L.MultiHeadAttention(2, 3, attention_axes=(2,))(x, x, return_attention_scores=True)[1]",
        "L.MultiHeadAttention(2, 3, attention_axes=(1, 3))(q, q)",
        "L.MultiHeadAttention(2, 3, output_shape=(2, 3))(t, t)",
        "L.MultiHeadAttention(2, 3, output_shape=(2, 3), value_dim=5)(x, x)",
        "L.MultiHeadAttention(2, 3)(t, t, attention_mask=k)",
    ],
    "sums": [
        "L.Dot(axes=(2, 2))([x, s])", "L.Dot(axes=(3, 1))([x, t[:, :4]])", "L.Average()([i, j])",
        "L.MaxPool1D(2)(i[:, :, None])", "L.GlobalAveragePooling1D()(i[:, :, None])",
        "L.EinsumDense('abcd,bde->abce', output_shape=(6, 5, 3), bias_axes='e')(x)",
        "L.EinsumDense('abc,bc->abc', output_shape=(7, 4))(t)",
        "L.EinsumDense('abc,bcde->ade', output_shape=(3, 2), bias_axes='e', activation='relu')(t)",
        "L.GroupNormalization(5, axis=2)(x)", "L.Conv3DTranspose(5, 3, 2, 'same', data_format='channels_first')(n)",
        "L.GlobalAvgPool3D()(q)", "L.GlobalMaxPool3D()(q)", "L.GlobalMaxPooling3D('channels_first')(q)",
    ],
    "one step": [
        "L.GRUCell(6)(v, [o])[0]", "L.GRUCell(6, reset_after=False)(v, [o])[0]",
        "L.SimpleRNNCell(6)(v, [o])[0]", "L.LSTMCell(6)(v, [o, o])[1][1]",
    ],
}  # fmt: skip

#: Families of layers of Keras 3.
LAYERS: dict[str, list[str]] = {
    **_LAYERS,
    "newer layers": [
        "L.AdaptiveAveragePooling1D(4)(t)", "L.AdaptiveMaxPooling1D(4, data_format='channels_first')(f)",
        "L.AdaptiveAveragePooling3D((4, 3, 2))(q)", "L.AdaptiveMaxPooling3D((4, 3, 2))(q)",
        "L.Resizing(5, 9, pad_to_aspect_ratio=True, fill_value=0.3)(p)",
        "L.Resizing(5, 6, antialias=True, interpolation='bicubic')(p)", "L.LayerNormalization(rms_scaling=True)(x)",
        "(lambda e: e(e(i), reverse=True))(L.ReversibleEmbedding(5, 3))",
        "(lambda e: e(e(i), reverse=True))(L.ReversibleEmbedding(5, 3, tie_weights=False, logit_soft_cap=2.0))",
        "L.Pipeline([L.RandomFlip(), L.Rescaling(2.0)])(p)", "L.RandomHue(0.2)(p)", "L.MixUp()(p)",
        "L.Activation('sparse_plus')(x)", "L.GroupQueryAttention(4, 6, 2, use_gate=True)(t, t)",
        "L.GroupQueryAttention(4, 6, 2, dropout=0.2)(t, t)", "L.MultiHeadAttention(2, 3, use_gate=True)(t, t)",
        "L.MultiHeadAttention(2, 3, sliding_window=2)(t, t, use_causal_mask=True)", "A.sparse_plus(x)",
    ],
    "spectrograms": [
        "L.MelSpectrogram(fft_length=16, sequence_stride=8, num_mel_bins=6, sampling_rate=1000)(w)",
        "L.MelSpectrogram(fft_length=16, sequence_length=12, sequence_stride=8, num_mel_bins=6, sampling_rate=1000, "
        "power_to_db=False, mag_exp=1.0)(w)",
        "L.MelSpectrogram(fft_length=16, sequence_stride=8, num_mel_bins=6, sampling_rate=1000, min_power=1e-3, "
        "ref_power=2.0, window='hamming')(w)",
        *[f"L.STFTSpectrogram('{mode}', frame_length=16, frame_step=4, padding='same')(w[:, :, None])"
          for mode in ("log", "magnitude", "psd", "real", "angle")],
        "L.STFTSpectrogram('stft', frame_length=12, frame_step=5, fft_length=16, expand_dims=True)(w[:, :, None])",
        "L.STFTSpectrogram('imag', frame_length=4, frame_step=2, data_format='channels_first')(f)",
    ],
}  # fmt: skip

#: Families of layers of Keras 2.
LAYERS_2: dict[str, list[str]] = {
    **_LAYERS,
    "older layers": [
        "L.LocallyConnected1D(5, 3, strides=2)(t)", "L.LocallyConnected1D(5, 3, data_format='channels_first')(f)",
        "L.LocallyConnected1D(5, 3, padding='same', implementation=2)(t)",
        "L.LocallyConnected1D(5, 3, implementation=3)(t)",
        "L.LocallyConnected2D(5, 3, strides=2, activation='relu')(p)",
        "L.LocallyConnected2D(5, 3, implementation=3)(p)",
        "L.LocallyConnected2D(5, (3, 2), strides=2, padding='same', implementation=2)(p)",
        "L.LocallyConnected2D(5, 3, implementation=2, data_format='channels_first')(g)",
        "L.LocallyConnected2D(5, 3, implementation=1, data_format='channels_first')(g)",
        "L.LocallyConnected2D(5, 3, implementation=3, data_format='channels_first')(g)",
        "L.BatchNormalization(axis=(1, 3))(x)", "L.LSTM(3, time_major=True, return_sequences=True)(t)",
        "L.Conv2D(6, 3, 2, 'same')(q)", "L.Conv1D(6, 3)(x)", "L.RandomHeight(0.2)(p)",
        *[f"L.UpSampling2D((2, 3), interpolation='{mode}')(x)" for mode in ("area", "gaussian", "mitchellcubic")],
        *[f"L.Resizing(5, 12, interpolation='{mode}')(p)" for mode in ("area", "gaussian", "mitchellcubic")],
    ],
}  # fmt: skip

#: What is refused, and a word of the sentence that says why.
REFUSED: dict[str, str] = {
    "ops.unique(i, size=3)": "depends on the numbers", "ops.top_k(x, 2, sorted=False)[0]": "sorted=True",
    "ops.image.resize(c, (4, 5))": "convert to float", "ops.quantile(x, 0.3, axis=1, method='nearest')": "percentile",
    "ops.bitwise_and(i, j)": "has to be a number that is known", "ops.svd(s)[1]": "outside of the network",
    "ops.binary_crossentropy(ops.sigmoid(x), ops.sigmoid(y))": "loss", "L.Hashing(5)(i)": "hash",
    "ops.rot90(x, k=2, axes=(1, 2))": "flip both axes",
    "L.IntegerLookup(vocabulary=[1, 2], num_oov_indices=2)(i)": "hash",
    "L.Resizing(4, 5)(c)": "convert to float", "ops.segment_sum(v[0], i[0])": "num_segments",
    "L.Solarization(value_range=(0, 1))(p)": "colours", "L.Lambda(lambda a: a * 2)(x)": "never runs",
}  # fmt: skip
REFUSED_2: dict[str, str] = {
    "L.BatchNormalization(virtual_batch_size=1, fused=False)(x)": "virtual_batch_size",
}
