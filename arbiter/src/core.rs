//! The decision, pure: a state and a claim go in, the next state and the outcome come out.
//!
//! ```text
//!                      claim(t, a): a wins t+1
//!   { t, holder h } ─────────────────────────────▶ { t+1, holder a }
//!                                                     │  ▲ claim(t, a): won again, nothing changes
//!                                                     └──┘ claim(anything else): lost, nothing changes
//! ```
//!
//! What always holds: the term never falls, it rises by one at a time, and only a `Won` raises it.

use std::fmt;

#[cfg(test)]
mod tests;

/// Who claims: 16 random bytes, made anew by each run of a process, so that a restarted replica is
/// not taken for the one that won before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity([u8; 16]);

impl Identity {
    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, as given to [`Identity::from_bytes`].
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// 32 lower-case hexadecimal digits.
impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({self})")
    }
}

/// What the arbiter knows: the pair's term, and who won it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Number of terms won so far.
    pub term: u64,
    /// The winner of `term`; none in term 0, which nobody has to win.
    pub holder: Option<Identity>,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The claimant alone is live in `term`, which is the expected term plus one.
    Won {
        /// The term that was won.
        term: u64,
    },
    /// Somebody else was faster, or the claimant expected a term that is long over: it must halt.
    Lost {
        /// The arbiter's current term.
        term: u64,
        /// Who won `term`; none in term 0.
        holder: Option<Identity>,
    },
}

/// The term has reached `u64::MAX` and cannot be raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "Term {} is the last one and cannot be raised: no pair counts that far, so something claims \
     in a loop. Stop it, then start a new arbiter state",
    u64::MAX
)]
pub struct TermExhausted;

impl State {
    /// A new arbiter's state: term 0, held by nobody.
    pub const FRESH: Self = Self {
        term: 0,
        holder: None,
    };

    /// Decides the claim of `identity` to move the term from `expected_term` to `expected_term + 1`.
    ///
    /// The returned state is the one to keep; it differs from `self` only when the claim has just
    /// been won for the first time.
    ///
    /// # Errors
    ///
    /// [`TermExhausted`] when the term is `u64::MAX`, the claim matches it, and so it would wrap.
    pub fn claim(
        self,
        expected_term: u64,
        identity: Identity,
    ) -> Result<(Self, Outcome), TermExhausted> {
        let claimed_term = expected_term.checked_add(1);
        if self.term == expected_term {
            let term = claimed_term.ok_or(TermExhausted)?;
            let holder = Some(identity);
            return Ok((Self { term, holder }, Outcome::Won { term }));
        }
        let outcome = if claimed_term == Some(self.term) && self.holder == Some(identity) {
            Outcome::Won { term: self.term }
        } else {
            Outcome::Lost {
                term: self.term,
                holder: self.holder,
            }
        };
        Ok((self, outcome))
    }

    /// Whether an arbiter can be in this state: term 0 has no holder, every other term has one.
    pub(crate) fn is_possible(&self) -> bool {
        (self.term == 0) == self.holder.is_none()
    }
}
