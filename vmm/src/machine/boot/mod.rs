//! Loading a guest.
