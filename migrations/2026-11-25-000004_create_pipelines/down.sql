DROP TABLE executions, pipeline_schedules, pipelines;
DELETE FROM job_steps WHERE status = 'skipped';
ALTER TABLE job_steps DROP CONSTRAINT job_steps_status_check;
ALTER TABLE job_steps ADD CONSTRAINT job_steps_status_check CHECK (status IN ('pending', 'running', 'completed', 'failed'));
