"""Differentiable optimizers: a forward step, and the derivative of the same step.

All quantities are vectors over all parameters. A bar over a quantity is the outer loss's derivative with respect to it.
Forward steps equal those of torch's optimizers of the same names (tests compare them).

**Adam** (Kingma, Ba, ICLR 2015), with c1 = 1 − β1^t, c2 = 1 − β2^t::

    m = β1 m' + (1 − β1) g ;  v = β2 v' + (1 − β2) g² ;  s = sqrt(v/c2 + ε_root) ;  q = s + ε ;  θ = θ' − lr (m/c1)/q

    lr̄ = −⟨θ̄, (m/c1)/q⟩ ;  m̄ −= (lr/c1) θ̄/q ;  v̄ += (lr/c1) θ̄ m/(2 c2 s q²)   (0 where s = 0)
    ḡ = (1 − β1) m̄ + 2 (1 − β2) g v̄ ;  m̄' = β1 m̄ ;  v̄' = β2 v̄ ;  θ̄' = θ̄ + contribution through g

**AdamW** (Loshchilov, Hutter, ICLR 2019): θ = (1 − lr wd) θ' − …, so θ̄' = (1 − lr wd) θ̄ and lr̄ −= wd ⟨θ̄, θ'⟩.
**SGD with momentum**: b = μ b' + g ; θ = θ' − lr b.  lr̄ = −⟨θ̄, b⟩ ; b̄ −= lr θ̄ ; ḡ = b̄ ; b̄' = μ b̄.
**Weight decay as an L2 penalty** (not decoupled): g = ĝ + wd θ', so ĝ̄ = ḡ and θ̄' += wd ḡ.
**Clipping by the global norm**: ĝ = a g with a = min(1, c/(‖g‖ + 1e-6)); for a < 1,
ḡ = a ĝ̄ − a ⟨g, ĝ̄⟩ g/(‖g‖ (‖g‖ + 1e-6)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

_CLIP_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_ adds it to the norm

Vectors = tuple[torch.Tensor, ...]
"""The parameters θ and the optimizer's state vectors (its slots), each [P]."""


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """A rule that computes θ_t from θ_{t−1} and the gradient there."""

    clip_norm: float | None = None
    """Maximum global norm of a gradient; larger gradients are scaled down to it first."""
    weight_decay: float = 0.0
    """wd, the weight decay."""
    decoupled: bool = False
    """Whether weight decay shrinks the parameters (AdamW) or is added to the gradient (an L2 penalty)."""

    @property
    @abstractmethod
    def n_slots(self) -> int:
        """Number of state vectors of the rule, each of the size of the parameters."""

    @abstractmethod
    def _rule(self, slots: Vectors, g: torch.Tensor, t: int) -> tuple[torch.Tensor, Vectors]:
        """Returns (direction, new slots); a step is θ −= lr · direction."""

    @abstractmethod
    def _rule_back(
        self, slots: Vectors, g: torch.Tensor, t: int, direction_bar: torch.Tensor, slot_bars: Vectors
    ) -> torch.Tensor:
        """Returns ḡ from the new ``slots``, the direction's adjoint, and the new slots' adjoints.

        Replaces ``slot_bars`` in place by the adjoints of the old slots; may overwrite ``direction_bar``.
        """

    def step(self, before: Vectors, gradient: torch.Tensor, rate: torch.Tensor, t: int) -> Vectors:
        """Returns the vectors after step ``t`` (from 1), given those before it and the gradient there."""
        g = self._prepared(before[0], gradient)
        direction, slots = self._rule(before[1:], g, t)
        kept = before[0]
        if self.decoupled and self.weight_decay:
            kept = kept * (1 - rate * self.weight_decay)
        return (kept - rate * direction, *slots)

    def back(
        self, before: Vectors, gradient: torch.Tensor, rate: torch.Tensor, t: int, bars: Vectors
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes the derivative of :meth:`step`.

        Args:
            before, gradient, rate, t: Arguments of :meth:`step`.
            bars: Adjoints of the vectors after the step; replaced in place by those of the vectors before it, without
                the contribution to the parameters through the gradient.

        Returns:
            The adjoints of the gradient and of the rate.
        """
        theta, theta_bar = before[0], bars[0]
        g = self._prepared(theta, gradient)
        direction, slots = self._rule(before[1:], g, t)
        rate_bar = -theta_bar @ direction
        g_bar = self._rule_back(slots, g, t, -rate * theta_bar, bars[1:])
        if self.weight_decay and self.decoupled:
            rate_bar = rate_bar - self.weight_decay * (theta_bar @ theta)
            theta_bar.mul_(1 - rate * self.weight_decay)
        elif self.weight_decay:
            theta_bar.add_(g_bar, alpha=self.weight_decay)
        return self._clip_back(gradient, g_bar), rate_bar

    def _prepared(self, theta: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        if self.clip_norm is not None:
            gradient = gradient * (self.clip_norm / (gradient.norm() + _CLIP_EPS)).clamp(max=1.0)
        return gradient if self.decoupled or not self.weight_decay else gradient + self.weight_decay * theta

    def _clip_back(self, g: torch.Tensor, clipped_bar: torch.Tensor) -> torch.Tensor:
        if self.clip_norm is None:
            return clipped_bar
        norm = g.norm()
        share = self.clip_norm / (norm + _CLIP_EPS)
        if share >= 1:
            return clipped_bar
        return share * (clipped_bar - (g @ clipped_bar) / (norm * (norm + _CLIP_EPS)) * g)


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam; AdamW with ``decoupled=True``. Slots: m, v."""

    betas: tuple[float, float] = (0.9, 0.999)
    """β1, β2."""
    eps: float = 1e-8
    """ε."""
    eps_root: float = 0.0
    """ε_root, inside the root: 1e-12 … 1e-8 bounds the derivative at gradients near 0."""

    @property
    def n_slots(self) -> int:
        return 2

    def _rule(self, slots: Vectors, g: torch.Tensor, t: int) -> tuple[torch.Tensor, Vectors]:
        beta1, beta2 = self.betas
        m = torch.lerp(slots[0], g, 1 - beta1)
        v = (slots[1] * beta2).addcmul_(g, g, value=1 - beta2)
        return m / (self._root(v, t).add_(self.eps)).mul_(1 - beta1**t), (m, v)

    def _rule_back(
        self, slots: Vectors, g: torch.Tensor, t: int, direction_bar: torch.Tensor, slot_bars: Vectors
    ) -> torch.Tensor:
        (beta1, beta2), (m, v), (m_bar, v_bar) = self.betas, slots, slot_bars
        c1, c2 = 1 - beta1**t, 1 - beta2**t
        s = self._root(v, t)
        q = s + self.eps
        through = direction_bar.div_(q).div_(c1)
        m_bar.add_(through)
        v_bar.sub_(through.mul_(m).div_(q.mul_(s).mul_(2 * c2)).masked_fill_(s <= 0, 0.0))
        g_bar = ((1 - beta1) * m_bar).addcmul_(g, v_bar, value=2 * (1 - beta2))
        m_bar.mul_(beta1)
        v_bar.mul_(beta2)
        return g_bar

    def _root(self, v: torch.Tensor, t: int) -> torch.Tensor:
        """Returns s as a new tensor."""
        return (v / (1 - self.betas[1] ** t)).add_(self.eps_root).sqrt_()


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Gradient descent with momentum. Slot: b, the momentum buffer."""

    momentum: float = 0.0
    """μ, the momentum."""

    @property
    def n_slots(self) -> int:
        return 1

    def _rule(self, slots: Vectors, g: torch.Tensor, t: int) -> tuple[torch.Tensor, Vectors]:
        buffer = self.momentum * slots[0] + g
        return buffer, (buffer,)

    def _rule_back(
        self, slots: Vectors, g: torch.Tensor, t: int, direction_bar: torch.Tensor, slot_bars: Vectors
    ) -> torch.Tensor:
        g_bar = slot_bars[0] + direction_bar
        torch.mul(g_bar, self.momentum, out=slot_bars[0])
        return g_bar
