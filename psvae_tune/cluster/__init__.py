"""Ray's machines are started, joined, inspected and shared here, and jobs are sent to them."""
