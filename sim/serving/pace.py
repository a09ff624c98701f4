"""How many tokens a step of decoding gives to every sequence: one, or with speculation a fraction more.

All sequences advance together, by the expected number of tokens. After s steps that is the whole part of s times the
rate, in exact integers, so that a leap of k steps and k steps one by one count the same tokens.
"""

from __future__ import annotations

from fractions import Fraction


class Pace:
    """The steps of an engine and the tokens that each of its decoding sequences would have got in them.

    Args:
        tokens_per_step: Tokens per step and sequence, at least one.

    Attributes:
        steps: Steps so far.
        rate: Tokens per step.
    """

    def __init__(self, tokens_per_step: Fraction) -> None:
        self._up, self._down = tokens_per_step.numerator, tokens_per_step.denominator
        self.rate: float = self._up if self._down == 1 else self._up / self._down
        self.steps = 0

    @property
    def position(self) -> float:
        """Tokens so far, not rounded: what grows by `rate` in every step."""
        return self.steps * self.rate

    def tokens_in(self, steps: int) -> int:
        """Tokens of the next `steps` steps."""
        return (self.steps + steps) * self._up // self._down - self.steps * self._up // self._down

    def steps_for(self, tokens: int) -> int:
        """Fewest steps that give at least `tokens`."""
        done = self.steps * self._up // self._down
        return -(-(done + tokens) * self._down // self._up) - self.steps

    def steps_within(self, tokens: int) -> int:
        """Most steps that give no more than `tokens`."""
        return self.steps_for(tokens + 1) - 1

    def advance(self, steps: int) -> int:
        """Counts `steps` more steps; tells their tokens."""
        tokens = self.tokens_in(steps)
        self.steps += steps
        return tokens
