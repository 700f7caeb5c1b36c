"""Speed and memory of dragnoise, beside a plain implementation: `python -m benchmarks --help`."""
