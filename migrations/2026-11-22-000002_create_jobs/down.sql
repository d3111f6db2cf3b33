DROP TABLE job_events, job_steps, jobs;
