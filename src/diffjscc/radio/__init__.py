"""The air: frames, waveforms, synchronisation, estimation, IQ files and streams."""
