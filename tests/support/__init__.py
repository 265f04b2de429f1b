"""What several tests and benchmarks need: small studies, servers, clusters, faults."""
