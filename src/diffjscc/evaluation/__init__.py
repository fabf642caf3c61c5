"""Sweeps of schemes over channels, rates and SNRs: records, means, comparisons."""
