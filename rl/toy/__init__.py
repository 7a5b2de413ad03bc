"""The toy task and the shipped toy policy of the CPU demonstration."""
