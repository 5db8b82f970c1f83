"""What a cluster costs by the platform team's prices: while it runs, and in the ledger."""
