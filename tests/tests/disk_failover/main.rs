//! Pairs with a disk: whatever becomes of a replica, what the guest's clients were told is on the disk.
//!
//! The guest is `journal`: each answer is a record that is durable, and it reads earlier ones back all the while; a wrong one ends its answers.

mod copies;
mod fencing;
mod logs;
mod output_rule;
mod rounds;
mod troubles;
