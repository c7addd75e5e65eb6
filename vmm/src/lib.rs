//! lockstep's hypervisor. See `docs/architecture.md` for the figure that the modules follow.

pub mod effect;
pub mod engine;
pub mod machine {
    pub mod boot;
    pub mod layout;
}
