-- Queues that an operator has paused: their jobs wait. Redis is told, and told again if it forgets.
CREATE TABLE queue_pauses (
    queue     text PRIMARY KEY,
    paused_at timestamptz NOT NULL DEFAULT now()
);
