"""The champion: decision ledger, promotion, rollback, reproduction, export."""
