//! Problems that stand, and the Events that tell them.

pub mod event_book;
pub mod event_text;
pub mod events;
pub mod problem_registry;
