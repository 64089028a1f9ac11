"""A server of N cards under traffic: requests, arrivals, queue, and what users would measure."""
