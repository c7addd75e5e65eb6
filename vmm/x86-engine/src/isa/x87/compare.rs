//! FCOM, FUCOM, FICOM, FTST, and those that write EFLAGS.

use iced_x86::Code;

use crate::{
    cpu::{Core, Halt, Step},
    decode::op::{Handler, Op},
    float80::{self, Comparison, Outcome, QuietNans, Relation},
};

use super::{
    arithmetic::{Double, Doubleword, Other, Second, Single, Source, Word, Zero},
    other,
    stack::{C1, CODES, Effect},
};

/// What quiet NaNs are to a comparison.
trait Kind {
    const QUIET_NANS: QuietNans;
}

/// FCOM.
struct Ordered;
/// FUCOM.
struct Unordered;

impl Kind for Ordered {
    const QUIET_NANS: QuietNans = QuietNans::Invalid;
}

impl Kind for Unordered {
    const QUIET_NANS: QuietNans = QuietNans::Quiet;
}

pub(super) fn select(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Fcom_st0_sti | Code::Fcom_st0_sti_DCD0 => compare::<Ordered, Other, 0>,
        Code::Fcomp_st0_sti | Code::Fcomp_st0_sti_DCD8 | Code::Fcomp_st0_sti_DED0 => {
            compare::<Ordered, Other, 1>
        }
        Code::Fcompp => compare::<Ordered, Second, 2>,
        Code::Fucompp => compare::<Unordered, Second, 2>,
        Code::Fucom_st0_sti => compare::<Unordered, Other, 0>,
        Code::Fucomp_st0_sti => compare::<Unordered, Other, 1>,
        Code::Fcom_m32fp => compare::<Ordered, Single, 0>,
        Code::Fcom_m64fp => compare::<Ordered, Double, 0>,
        Code::Ficom_m16int => compare::<Ordered, Word, 0>,
        Code::Ficom_m32int => compare::<Ordered, Doubleword, 0>,
        Code::Fcomp_m32fp => compare::<Ordered, Single, 1>,
        Code::Fcomp_m64fp => compare::<Ordered, Double, 1>,
        Code::Ficomp_m16int => compare::<Ordered, Word, 1>,
        Code::Ficomp_m32int => compare::<Ordered, Doubleword, 1>,
        Code::Ftst => compare::<Ordered, Zero, 0>,
        Code::Fcomi_st0_sti => compare_to_flags::<Ordered, 0>,
        Code::Fcomip_st0_sti => compare_to_flags::<Ordered, 1>,
        Code::Fucomi_st0_sti => compare_to_flags::<Unordered, 0>,
        Code::Fucomip_st0_sti => compare_to_flags::<Unordered, 1>,
        _ => return None,
    })
}

/// Compares, and writes the condition codes.
fn compare<K: Kind, S: Source, const POPS: usize>(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let relation = relation::<K, S, POPS>(core, op)?;
    core.x87.set_codes(CODES & !C1, relation.condition_codes());
    Ok(())
}

/// Compares, and writes ZF, PF and CF; OF, SF and AF become 0. C1 changes with a stack fault only.
fn compare_to_flags<K: Kind, const POPS: usize>(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let c1 = core.x87.status & C1;
    let is_underflow = !core.x87.is_in_use(0) || !core.x87.is_in_use(other(op));
    let relation = relation::<K, Other, POPS>(core, op)?;
    if !is_underflow {
        core.x87.set_codes(C1, c1);
    }
    core.flags.set_arithmetic(relation.flags().into());
    Ok(())
}

fn relation<K: Kind, S: Source, const POPS: usize>(
    core: &mut Core,
    op: &Op,
) -> Result<Relation, Halt> {
    let source = S::read(core, op)?;
    let x87 = &mut core.x87;
    let environment = x87.environment();
    let (relation, effect) = match (x87.operand(0), source.number) {
        (Some(a), Some(b)) => {
            let mut comparison = float80::compare(a, b, K::QUIET_NANS, environment);
            if source.denormal {
                comparison = comparison.after_denormal(environment);
            }
            (comparison.relation, effect_of(&comparison))
        }
        _ => (Relation::Unordered, x87.underflow(())),
    };
    x87.report(&effect);
    if effect.value.is_some() {
        (0..POPS).for_each(|_| x87.pop());
    }
    if S::IN_MEMORY {
        core.note_x87_memory(op);
    } else {
        core.note_x87(op);
    }
    Ok(relation)
}

/// No value if an unmasked exception keeps the stack as it is. Condition codes and flags are written in any case.
fn effect_of(comparison: &Comparison) -> Effect<()> {
    let outcome = Outcome {
        value: (!comparison.stopped).then_some(()),
        exceptions: comparison.exceptions,
        rounded_up: false,
    };
    outcome.into()
}
