//! Calls of language models as jobs make them: recorded, paid for out of budgets, never repeated once they are answered.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

mod answers;
mod budgets;
mod crashes;
mod fixture;
mod statements;
mod streams;
