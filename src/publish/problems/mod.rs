//! Current problems, and the Events that report them where `kubectl describe` shows them.
//!
//! ```text
//! reports ─▶ ProblemRegistry ─ problems of an object ─▶ EventBook ─ one Event at a time ─▶ Events::run ─▶ API server
//! ```
//!
//! The registry knows which problems each object has, whoever reports them. The book compares them with the Events
//! that were written, and says which to write next, refresh or end. Both are plain values without I/O.

mod event_book;
mod event_text;
mod events;
mod problem_registry;
mod turns;

pub use events::Events;
pub(crate) use problem_registry::ProblemRegistry;
