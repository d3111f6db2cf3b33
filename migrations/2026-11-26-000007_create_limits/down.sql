DROP TABLE idempotency_keys;
DROP TABLE quota_reservations;
DROP TABLE quota_windows;
