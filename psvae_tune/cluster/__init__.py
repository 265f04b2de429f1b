"""Ray's machines are started, joined and shared here, and jobs are sent to them."""
