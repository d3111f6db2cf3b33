DROP TABLE orchestration_days, request_minutes, usage_hours;
