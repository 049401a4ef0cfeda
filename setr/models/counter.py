"""A forward pass on paper: the shapes that flow through a model, what autograd keeps of them, and the work done.

Everything is counted for one image. Nothing is built: a model of the tables takes about a millisecond.
"""

from dataclasses import dataclass

FLOAT32, BFLOAT16, INT64 = 4, 2, 8  # bytes an element


@dataclass
class Activation:
    """A tensor (channels, height, width) of one image, or tokens (channels, 1, number)."""

    channels: int
    height: int
    width: int
    itemsize: int
    saved: bool = False  # autograd keeps it already: a second use costs nothing

    @property
    def pixels(self) -> int:
        """Returns height x width."""
        return self.height * self.width

    @property
    def bytes(self) -> int:
        """Returns what it takes for one image."""
        return self.channels * self.pixels * self.itemsize


@dataclass
class Tally:
    """What has been counted so far; `precision` is the recipe's (float32 | bfloat16: autocast)."""

    precision: str = "float32"
    device: str = "cuda"  # where it decides: what autocast does, and how the loss is computed
    saved: int = 0  # bytes an image that autograd keeps until backward
    fixed: int = 0  # bytes it keeps however many images there are (weights cast or standardised)
    largest: int = 0  # bytes an image of the largest tensor
    flops: int = 0  # of one image, forward; a multiply-add is two
    parameters: int = 0
    frozen: int = 0  # parameters without a gradient

    @property
    def low(self) -> int:
        """Returns the bytes of an element that matrix products and convolutions give."""
        return BFLOAT16 if self.precision == "bfloat16" else FLOAT32

    def new(self, channels: int, height: int, width: int, itemsize: int) -> Activation:
        """Returns a tensor that some operation gives."""
        made = Activation(channels, height, width, itemsize)
        self.largest = max(self.largest, made.bytes)
        return made

    def keep(self, x: Activation) -> Activation:
        """Returns x, which autograd keeps from now on."""
        if not x.saved:
            self.saved += x.bytes
            x.saved = True
        return x

    def keep_as(self, x: Activation, itemsize: int) -> Activation:
        """Returns x in another precision, kept: a copy if it is not in that precision."""
        return self.keep(x if x.itemsize == itemsize else self.new(x.channels, x.height, x.width, itemsize))

    def weight(self, *sizes: int, cast: bool = True) -> None:
        """Counts a parameter of these numbers of elements; `cast`: autocast keeps a copy of it."""
        count = sum(sizes)
        self.parameters += count
        if cast and self.low != FLOAT32:
            self.fixed += count * self.low

    def conv(
        self, x: Activation, channels: int, kernel: int, *, stride: int = 1, bias: bool = False, standard: bool = False
    ) -> Activation:
        """Returns a convolution that keeps the size but for the stride; `standard`: with weight standardisation."""
        self.keep_as(x, self.low)
        height, width = -(-x.height // stride), -(-x.width // stride)
        weights = channels * x.channels * kernel * kernel
        self.weight(weights, channels if bias else 0)
        if standard:
            self.fixed += (weights if self.low == FLOAT32 else 0) * FLOAT32 + 2 * channels * FLOAT32
        self.flops += 2 * weights * height * width
        return self.new(channels, height, width, self.low)

    def linear(self, x: Activation, channels: int) -> Activation:
        """Returns a linear layer with bias over the tokens."""
        return self.conv(x, channels, 1, bias=True)

    def layer_norm(self, x: Activation) -> Activation:
        """Returns LayerNorm over the channels, in float32 also under autocast; its statistics are kept."""
        self.keep_as(x, FLOAT32)
        self.saved += 2 * FLOAT32 * x.pixels
        self.weight(2 * x.channels, cast=False)
        return self.new(x.channels, x.height, x.width, FLOAT32)

    def group_norm_relu(self, x: Activation) -> Activation:
        """Returns GroupNorm (of up to 32 groups) and ReLU in place; in float32 under a GPU's autocast."""
        itemsize = FLOAT32 if self.device == "cuda" else x.itemsize
        self.keep_as(x, itemsize)
        self.saved += 2 * 32 * FLOAT32
        self.weight(2 * x.channels, cast=False)
        return self.keep(self.new(x.channels, x.height, x.width, itemsize))

    def batch_norm(self, x: Activation) -> Activation:
        """Returns BatchNorm in the precision it gets; the batch's statistics are kept."""
        self.keep(x)
        self.fixed += 2 * x.channels * FLOAT32
        self.weight(2 * x.channels, cast=False)
        return self.new(x.channels, x.height, x.width, x.itemsize)

    def batch_norm_relu(self, x: Activation) -> Activation:
        """Returns BatchNorm and ReLU in place: the ReLU keeps its result."""
        return self.keep(self.batch_norm(x))

    def conv_norm_relu(
        self, x: Activation, channels: int, kernel: int, *, scale: int = 1, bias: bool = False
    ) -> Activation:
        """Returns convolution, BatchNorm and ReLU after a resize by `scale`, which a 1x1 convolution goes before."""
        if kernel == 1:
            return self.batch_norm_relu(self.resize(self.conv(x, channels, 1, bias=bias), scale))
        return self.batch_norm_relu(self.conv(self.resize(x, scale), channels, kernel, bias=bias))

    def resize(self, x: Activation, scale: int) -> Activation:
        """Returns x enlarged by `scale`; x itself for 1."""
        if scale == 1:
            return x
        return self.new(x.channels, x.height * scale, x.width * scale, x.itemsize)

    def resize_to(self, x: Activation, size: tuple[int, int]) -> Activation:
        """Returns x at another size; x itself if it has it."""
        return x if (x.height, x.width) == size else self.new(x.channels, *size, x.itemsize)

    def max_pool(self, x: Activation) -> Activation:
        """Returns the pooling by two of a ResNet's stem, whose indices are kept."""
        self.keep(x)
        made = self.new(x.channels, -(-x.height // 2), -(-x.width // 2), x.itemsize)
        self.saved += made.channels * made.pixels * INT64
        return made

    def add(self, x: Activation, y: Activation) -> Activation:
        """Returns the sum, in the wider precision."""
        return self.new(x.channels, x.height, x.width, max(x.itemsize, y.itemsize))

    def dropout(self, x: Activation) -> Activation:
        """Returns x with whole channels dropped, whose mask is kept."""
        self.saved += x.channels * x.itemsize
        return self.new(x.channels, x.height, x.width, x.itemsize)

    def attention(self, x: Activation, heads: int) -> Activation:
        """Returns softmax(QK/sqrt d)V with its two products, by a kernel that keeps no map (SDPA)."""
        joint = self.keep(self.linear(x, 3 * x.channels))
        tokens = x.pixels
        self.flops += 4 * tokens * tokens * x.channels
        self.saved += heads * tokens * FLOAT32  # the logarithms of the sums
        return self.new(x.channels, x.height, x.width, joint.itemsize)
