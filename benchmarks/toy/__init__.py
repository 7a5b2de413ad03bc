"""The toy task of the demonstration without a GPU, and what makes its files in rl/toy/."""
