//! What the end-to-end tests share.

pub mod images;
pub mod snippet;
pub mod twins;
