"""What a type checker must see in a program that uses the package; for mypy and pyright, never run."""
