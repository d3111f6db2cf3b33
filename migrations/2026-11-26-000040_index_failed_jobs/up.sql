-- What an operator looks through, and tries again: jobs that failed, the latest first.
CREATE INDEX jobs_failed_idx ON jobs (finished_at DESC, id DESC) WHERE status = 'failed';
