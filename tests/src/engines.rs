//! The same test on every engine.

pub use vmm::engine::EngineKind;

/// Makes tests `kvm::NAME` and `soft::NAME` of each function, which is given the engine.
///
/// ```text
/// on_every_engine! {
///     fn sleeper(engine) {
///         twins(&Guest::bare(engine, "sleeper", ""), "sleeper end");
///     }
/// }
/// ```
#[macro_export]
macro_rules! on_every_engine {
    ($($(#[$meta:meta])* fn $name:ident($engine:ident) $body:block)*) => {
        $($(#[$meta])* fn $name($engine: $crate::engines::EngineKind) $body)*

        mod kvm {
            $(#[test] fn $name() { super::$name($crate::engines::EngineKind::Kvm); })*
        }

        mod soft {
            $(#[test] fn $name() { super::$name($crate::engines::EngineKind::Soft); })*
        }
    };
}
