//! The rules, pure.
//!
//! ```text
//!               attach                  cut: the state moves on, or the same
//!   binding ────────────▶ serving ───── client attaches anew ──────────────▶ draining
//!     is the state's         │ enter, leave                                     │ leave
//!                            └── detach ──▶ draining ── nothing under way ──▶ gone
//! ```
//!
//! What always holds: a request enters only on a connection whose binding is the state and which has
//! not been cut; the state's term never falls; a connection is forgotten when it is detached and
//! nothing of it is under way.

use std::collections::BTreeMap;

use arbiter::State;

use crate::wire::Binding;

/// A bound connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// The connection may start nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff;

/// The binding is not the arbiter's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherTerm {
    /// The term of that state.
    pub term: u64,
}

/// The arbiter's state as the storage obeys it, and the connections under it.
#[derive(Debug)]
pub struct Core {
    state: State,
    next_id: u64,
    connections: BTreeMap<ConnectionId, Connection>,
}

#[derive(Debug)]
struct Connection {
    binding: Binding,
    export: usize,
    cut: bool,
    detached: bool,
    under_way: usize,
}

impl Core {
    /// Nobody is connected yet.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            state,
            next_id: 0,
            connections: BTreeMap::new(),
        }
    }

    /// What the storage obeys.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Moves on to `state`: whoever is bound to another one is cut. An older state changes nothing.
    pub fn advance(&mut self, state: State) {
        if state.term <= self.state.term {
            return;
        }
        self.state = state;
        for connection in self.connections.values_mut() {
            connection.cut |= !may_write(state, connection.binding);
        }
    }

    /// A new connection to export number `export`. Cuts the same client's older ones to it; see
    /// [`Core::is_alone`] for when it may begin.
    ///
    /// # Errors
    /// If the binding is not the state.
    pub fn attach(&mut self, binding: Binding, export: usize) -> Result<ConnectionId, OtherTerm> {
        self.check(binding)?;
        for older in self.connections.values_mut() {
            older.cut |= older.binding == binding && older.export == export;
        }
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        let connection = Connection {
            binding,
            export,
            cut: false,
            detached: false,
            under_way: 0,
        };
        self.connections.insert(id, connection);
        Ok(id)
    }

    /// Whether this binding may write.
    ///
    /// # Errors
    /// If it is not the state.
    pub fn check(&self, binding: Binding) -> Result<(), OtherTerm> {
        let term = self.state.term;
        let allowed = may_write(self.state, binding);
        allowed.then_some(()).ok_or(OtherTerm { term })
    }

    /// A request begins.
    ///
    /// # Errors
    /// If the connection was cut.
    pub fn enter(&mut self, id: ConnectionId) -> Result<(), CutOff> {
        let connection = self.connections.get_mut(&id).ok_or(CutOff)?;
        if connection.cut || connection.detached {
            return Err(CutOff);
        }
        connection.under_way += 1;
        Ok(())
    }

    /// A request that had entered has ended at the storage. Returns whether somebody may wait for that.
    ///
    /// # Panics
    /// If none had.
    pub fn leave(&mut self, id: ConnectionId) -> bool {
        let connection = self.connections.get_mut(&id);
        let connection = connection.expect("who leaves has entered, and is kept until then");
        assert!(
            connection.under_way > 0,
            "{id:?} leaves more often than it entered"
        );
        connection.under_way -= 1;
        let awaited = connection.cut || connection.detached;
        self.forget_if_gone(id);
        awaited
    }

    /// The connection has ended. What is under way counts until it leaves.
    pub fn detach(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.detached = true;
        }
        self.forget_if_gone(id);
    }

    fn forget_if_gone(&mut self, id: ConnectionId) {
        let connection = self.connections.get(&id);
        if connection.is_some_and(|connection| connection.detached && connection.under_way == 0) {
            self.connections.remove(&id);
        }
    }

    /// Whether the connection may start nothing any more.
    #[must_use]
    pub fn is_cut(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_none_or(|connection| connection.cut || connection.detached)
    }

    /// Whether nothing of terms before `term` is under way.
    #[must_use]
    pub fn is_drained_before(&self, term: u64) -> bool {
        !self
            .connections
            .values()
            .any(|connection| connection.under_way > 0 && connection.binding.term < term)
    }

    /// Whether nothing of the same client's older connections to the same export is under way.
    #[must_use]
    pub fn is_alone(&self, id: ConnectionId) -> bool {
        let Some(own) = self.connections.get(&id) else {
            return true;
        };
        let mut older = self.connections.range(..id).map(|(_, older)| older);
        !older.any(|older| {
            older.under_way > 0 && older.binding == own.binding && older.export == own.export
        })
    }

    /// Whether nothing at all is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.connections
            .values()
            .all(|connection| connection.under_way == 0)
    }
}

fn may_write(state: State, binding: Binding) -> bool {
    state.term == binding.term && state.holder == Some(binding.identity)
}
