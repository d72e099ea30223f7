"""Where the bridge meets the world: one I/O library each; they translate and hand over, and decide nothing."""
