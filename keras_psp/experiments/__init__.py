"""Whether it is true what the papers say: each experiment is one command."""
