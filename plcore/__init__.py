"""Convergence of gradient descent through local Polyak–Łojasiewicz criteria."""
