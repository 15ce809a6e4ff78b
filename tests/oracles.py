"""Independent oracles: the network of theory restated for HIPS autograd, and mpmath formulas.

Nothing here comes from `plcore`.  A network is (widths, names, w): the widths d_0 … d_L, the names
of σ_1 … σ_{L−1} as `activations.named` reads them, and one flat parameter vector.  Samples are
rows throughout, and every derivative is autograd's.
"""

import itertools
import re

import autograd
import autograd.numpy as anp
import mpmath
from autograd.scipy.special import erf
from mpmath import mp

# --------------------------------------------------------------------------- activations


def _slope_of(name):
    match = re.fullmatch(r"(smooth_leaky_relu|leaky_relu)\((.+)\)", name)
    return (match[1], float(match[2])) if match else (name, None)


def autograd_activation(name):
    """σ as a function that autograd can differentiate (accurate for moderate arguments)."""
    kind, s = _slope_of(name)
    return {
        "tanh": anp.tanh,
        "arctan": anp.arctan,
        "arcsinh": anp.arcsinh,
        "sigmoid": lambda u: 1 / (1 + anp.exp(-u)),
        "shifted_sigmoid": lambda u: 1 / (1 + anp.exp(-u)) - 0.5,
        "softplus": lambda u: anp.logaddexp(0.0, u),
        "shifted_softplus": lambda u: anp.logaddexp(0.0, u) - anp.log(2.0),
        "smooth_leaky_relu": lambda u: s * u + (1 - s) * (anp.logaddexp(0.0, u) - anp.log(2.0)),
        "leaky_relu": lambda u: anp.where(u > 0, u, s * u),
        "identity": lambda u: 1.0 * u,
        "relu": lambda u: anp.where(u > 0, u, 0.0),
        "squared_relu": lambda u: anp.where(u > 0, u, 0.0) ** 2,
        "gelu": lambda u: 0.5 * u * (1 + erf(u / anp.sqrt(2.0))),
    }[kind]


def mpmath_activation(name):
    """σ as a function of an mpmath number, exact to the working precision."""
    kind, s = _slope_of(name)
    softplus = lambda u: mpmath.log1p(mpmath.exp(u))  # noqa: E731
    return {
        "tanh": mpmath.tanh,
        "arctan": mpmath.atan,
        "arcsinh": mpmath.asinh,
        "sigmoid": lambda u: 1 / (1 + mpmath.exp(-u)),
        "shifted_sigmoid": lambda u: 1 / (1 + mpmath.exp(-u)) - mpmath.mpf(0.5),
        "softplus": softplus,
        "shifted_softplus": lambda u: softplus(u) - mpmath.log(2),
        "smooth_leaky_relu": lambda u: s * u + (1 - mpmath.mpf(s)) * (softplus(u) - mpmath.log(2)),
        "leaky_relu": lambda u: u if u > 0 else s * u,
        "identity": lambda u: +u,
        "relu": lambda u: u if u > 0 else 0 * u,
        "squared_relu": lambda u: u * u if u > 0 else 0 * u,
        # Below −10⁹ it is zero to any precision, and erfc cannot be asked.
        "gelu": lambda u: u * mpmath.erfc(-u / mpmath.sqrt(2)) / 2 if u > -1e9 else 0 * u,
    }[kind]


def mpmath_derivative(name, order, u):
    """σ, σ′ or σ″ at a float `u`, by mpmath's differentiation, correct to a float's last digit.

    In the tails 400 digits are carried, so that whatever float64 can hold survives cancellation.
    """
    with mp.workdps(60 if abs(u) < 8 else 400):
        return mpmath.diff(mpmath_activation(name), mpmath.mpf(u), order)


# --------------------------------------------------------------------------- network


def unpack(widths, w):
    """W_ℓ row by row, then b_ℓ, layer after layer: the documented order, written anew."""
    pairs, position = [], 0
    for inputs, outputs in itertools.pairwise(widths):
        rows = []
        for _ in range(outputs):
            rows.append(w[position : position + inputs])
            position += inputs
        pairs.append((anp.stack(rows), w[position : position + outputs]))
        position += outputs
    assert position == len(w)
    return pairs


def outputs(widths, names, w, X):
    """(f(x_i, w))_i for one parameter vector and the rows of `X`."""
    *hidden, (W, b) = unpack(widths, w)
    h = X
    for name, (weight, bias) in zip(names, hidden, strict=True):
        h = autograd_activation(name)(anp.dot(h, weight.T) + bias)
    return (anp.dot(h, W.T) + b)[:, 0]


def loss(widths, names, w, X, y):
    """S(w) = (1/n) Σ_i (y_i − f(x_i, w))²."""
    return anp.mean((y - outputs(widths, names, w, X)) ** 2)


def gradient(widths, names, w, X, y):
    """∇S(w)."""
    return autograd.grad(lambda v: loss(widths, names, v, X, y))(w)


def hessian_vector(widths, names, w, X, y, v):
    """∇²S(w) v."""
    slope = lambda u: anp.dot(gradient(widths, names, u, X, y), v)  # noqa: E731
    return autograd.grad(slope)(w)


def jacobian(widths, names, w, X):
    """The n × p matrix of ∂f(x_i, w)/∂w_j."""
    return autograd.jacobian(lambda v: outputs(widths, names, v, X))(w)


def kernel(widths, names, w, X):
    """K(w) = J Jᵀ, from the Jacobian."""
    J = jacobian(widths, names, w, X)
    return J @ J.T


# --------------------------------------------------------------------------- linear algebra


def mpmath_eigenvalues(matrix, digits=50):
    """Eigenvalues of a symmetric matrix in increasing order, as mpmath numbers."""
    with mp.workdps(digits):
        values = mp.eigsy(mp.matrix(matrix.tolist()), eigvals_only=True)
        return sorted(values)
