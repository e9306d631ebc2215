"""The parts of `benchmarks/peers.py`: problems, thin adapters of the peers, measurements, report."""
