"""The champion: the ledger of decisions, promotion, rollback, reproduction, export."""
