//! The one-command binary: `atelier up` starts everything Atelier needs on a machine without any configuration;
//! `atelier api`, `worker` and `scheduler` are the three programs themselves, `atelier admin` is the operator's.
//!
//! The servers it starts are a library of their own ([`services`]), which the tests use too.

mod admin;
pub mod cli;
pub mod config;
pub mod services;
pub mod terminal;
mod tour;
mod up;
