ALTER TABLE job_images DROP COLUMN taken_by, DROP COLUMN taken_attempt;
