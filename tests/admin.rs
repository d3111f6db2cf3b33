//! The operator's command line: the real program against a world, what it says to programs, and what it does.

mod accounts;
mod ground;
mod jobs;
mod queues;
