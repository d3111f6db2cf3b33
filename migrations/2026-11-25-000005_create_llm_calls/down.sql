DROP TABLE chat_entries, usage_records, budgets, llm_calls;
ALTER TABLE organizations DROP COLUMN monthly_token_budget, DROP COLUMN monthly_cost_budget_nanos;
